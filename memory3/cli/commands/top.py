"""``memory3 top``: what the three services are doing, as it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from memory3.cli.examples import examples
from memory3.cli.options import (
    DecoderOption,
    EncoderOption,
    Output,
    OutputOption,
    RetrieverOption,
)

if TYPE_CHECKING:
    from memory3.cli.top_view import Watch
    from memory3.sdk.call import ServiceName

app = typer.Typer(add_completion=False)


@app.command(
    rich_help_panel="Services",
    epilog=examples(
        "memory3 top",
        "memory3 top --interval 5",
        "memory3 top --once -o json",
        "MEMORY3_METRICS_DECODER=10.0.0.7:9300 memory3 top",
    ),
)
def top(
    decoder: DecoderOption = None,
    retriever: RetrieverOption = None,
    encoder: EncoderOption = None,
    interval: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds between two looks.")
    ] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="One look, over one interval; then leave.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Watch tokens, queues, latencies and hit rates of the services, live.

    Reads the metrics ports: those of `memory3 up`, or what
    MEMORY3_METRICS_DECODER, MEMORY3_METRICS_RETRIEVER and
    MEMORY3_METRICS_ENCODER name. Rates and quantiles are of the last interval.
    JSON is written with --once. Exit 1 if no service's metrics can be read
    then.
    """
    import sys
    import time

    from memory3.cli.output import print_json
    from memory3.cli.top_view import Watch
    from memory3.errors import InvalidArgumentError
    from memory3.sdk.addresses import address_of

    given: dict[ServiceName, str | None] = {
        "decoder": decoder,
        "retriever": retriever,
        "encoder": encoder,
    }
    watches = [Watch(name, address_of(name, address)) for name, address in given.items()]
    once = once or not sys.stdout.isatty()
    if output is Output.JSON and not once:
        raise InvalidArgumentError(
            "a live view is no JSON", field="output", remedy="add --once, or leave --output out"
        )
    for watch in watches:
        watch.look()
    if not once:
        _live(watches, interval)
        return
    if any(watch.numbers is not None for watch in watches):
        time.sleep(interval)
        for watch in watches:
            watch.look()
    if output is Output.JSON:
        print_json([watch.as_json() for watch in watches])
    else:
        _print_once(watches)
    if all(watch.numbers is None for watch in watches):
        raise typer.Exit(1)


def _live(watches: list[Watch], interval: float) -> None:
    import time

    from rich.live import Live

    from memory3.cli.top_view import render

    try:
        with Live(render(watches, interval), screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                for watch in watches:
                    watch.look()
                live.update(render(watches, interval), refresh=True)
    except KeyboardInterrupt:
        return


def _print_once(watches: list[Watch]) -> None:
    from memory3.cli.output import print_table

    rows = [(w.service, "health", w.health) for w in watches]
    for watch in watches:
        rows += [
            (watch.service, name, "" if value is None else f"{value:.6g}")
            for name, value in (watch.numbers or {}).items()
        ]
    print_table(["service", "number", ">value"], rows)
