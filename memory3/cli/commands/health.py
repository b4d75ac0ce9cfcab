"""``memory3 health``: one probe of one service, for engines that cannot ask by gRPC themselves."""

from __future__ import annotations

from typing import Annotated

import typer

from memory3.cli.examples import examples
from memory3.cli.options import Output, OutputOption

app = typer.Typer(add_completion=False)


@app.command(
    rich_help_panel="Services",
    epilog=examples(
        "memory3 health 127.0.0.1:7300", "memory3 health 127.0.0.1:7300 --service liveness"
    ),
)
def health(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="The service's address.")],
    service: Annotated[
        str, typer.Option(help="What to ask for: readiness, liveness or a service's full name.")
    ] = "readiness",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait.")] = 2.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Ask a service for its health; exit 1 unless it is SERVING."""
    from memory3.cli.output import emit
    from memory3.rpc.probe import SERVING, ask_health

    state = ask_health(address, service, timeout)
    emit(output, {"address": address, "service": service, "state": state}, {service: state})
    if state != SERVING:
        raise typer.Exit(1)
