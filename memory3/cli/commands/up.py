"""``memory3 up``: the services on this machine, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memory3.cli.examples import examples
from memory3.cli.options import Output, OutputOption

if TYPE_CHECKING:
    import threading

    from memory3.launcher import LocalServices
    from memory3.launcher.services import ProcessName

app = typer.Typer(add_completion=False)

_POLL_S = 0.3

# Variables of single services that say what `up` itself decides for all three.
_OVERRULED = {
    **{
        f"MEMORY3_{name}_CHECKPOINT": "all three load that of --checkpoint or MEMORY3_CHECKPOINT"
        for name in ("ENCODER", "RETRIEVER", "DECODER")
    },
    "MEMORY3_RETRIEVER_ENCODER": "the retriever asks the encoder that is started here",
    "MEMORY3_DECODER_RETRIEVER": "the decoder asks the retriever that is started here",
    **{
        f"MEMORY3_GATEWAY_{name}": f"the gateway asks the {name.lower()} that is started here"
        for name in ("ENCODER", "RETRIEVER", "DECODER")
    },
}


@app.command(
    rich_help_panel="Services",
    epilog=examples(
        "memory3 up",
        "memory3 up --gateway",
        "memory3 up --checkpoint checkpoints/small --data ./banks",
        "memory3 up --random-ports -o json",
    ),
)
def up(
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            envvar="MEMORY3_CHECKPOINT",
            metavar="DIR",
            help="The checkpoint that all services load.",
            show_default="checkpoints/small",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            envvar=["MEMORY3_RETRIEVER_DATA", "MEMORY3_DATA"],
            metavar="DIR",
            help="Where banks are kept.",
            show_default="~/.local/share/memory3",
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            envvar="MEMORY3_STATE",
            metavar="DIR",
            help="Where logs are kept.",
            show_default="~/.local/state/memory3",
        ),
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            envvar="MEMORY3_RETRIEVER_CACHE",
            help="local, none, or redis://HOST:PORT/DB to share memories.",
            show_default="local",
        ),
    ] = None,
    decoder_port: Annotated[
        int,
        typer.Option(min=0, max=65535, envvar="MEMORY3_DECODER_PORT", help="0 for a free one."),
    ] = 7300,
    retriever_port: Annotated[
        int,
        typer.Option(min=0, max=65535, envvar="MEMORY3_RETRIEVER_PORT", help="0 for a free one."),
    ] = 7301,
    encoder_port: Annotated[
        int,
        typer.Option(min=0, max=65535, envvar="MEMORY3_ENCODER_PORT", help="0 for a free one."),
    ] = 7302,
    gateway: Annotated[
        bool,
        typer.Option(
            "--gateway",
            help="Also serve OpenAI's interface and a page for people.",
        ),
    ] = False,
    gateway_port: Annotated[
        int,
        typer.Option(min=0, max=65535, envvar="MEMORY3_GATEWAY_PORT", help="0 for a free one."),
    ] = 7310,
    random_ports: Annotated[
        bool, typer.Option("--random-ports", help="Free ports for all of them.")
    ] = False,
    ready_timeout: Annotated[
        float, typer.Option(min=1, help="Seconds until all must be ready.")
    ] = 120,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run encoder, retriever and decoder on this machine until Ctrl-C or SIGTERM.

    If one dies, the others are stopped and the end of its log is shown.
    Settings of single services are read from MEMORY3_ENCODER_*,
    MEMORY3_RETRIEVER_*, MEMORY3_DECODER_* and MEMORY3_GATEWAY_*; options
    win. The checkpoint
    and the addresses at which the three find each other are chosen here.
    """
    from memory3.cli.failures import warn
    from memory3.cli.places import data_folder, default_checkpoint, state_folder
    from memory3.launcher import LaunchOptions, LocalServices

    if gateway:
        _check_installed()
    ports: dict[ProcessName, int] = {
        "decoder": decoder_port,
        "retriever": retriever_port,
        "encoder": encoder_port,
        "gateway": gateway_port,
    }
    options = LaunchOptions(
        checkpoint=checkpoint or default_checkpoint(),
        data=data or data_folder(),
        state=state or state_folder(),
        ports={} if random_ports else ports,
        cache=cache,
        gateway=gateway,
        environment=_metrics_ports(random_ports),
    )
    for name in _OVERRULED:
        if name in os.environ:
            warn(f"{name} is not used: {_OVERRULED[name]}")
    _run(LocalServices(options), ready_timeout, output)


def _check_installed() -> None:
    import importlib.util

    from memory3.errors import FailedPreconditionError

    if importlib.util.find_spec("fastapi") is None or importlib.util.find_spec("uvicorn") is None:
        raise FailedPreconditionError(
            "the gateway is not installed",
            field="gateway",
            remedy="pip install 'memory3[gateway]'",
        )


def _metrics_ports(random_ports: bool) -> dict[str, str]:
    """The variables that have each service serve its metrics, for `memory3 top` and Prometheus."""
    from memory3.cli.states import METRICS_PORTS
    from memory3.launcher.ports import free_ports, is_free

    others = iter(free_ports(len(METRICS_PORTS)))
    ports = {}
    for name, port in METRICS_PORTS.items():
        variable = f"MEMORY3_{name.upper()}_METRICS_PORT"
        usual = not random_ports and is_free(port)
        ports[variable] = os.environ.get(variable) or str(port if usual else next(others))
    return ports


def _metrics_at(services: LocalServices) -> dict[str, str]:
    """Where the metrics of the services are; those that are switched off are left out."""
    ports = {
        name: services.options.environment[f"MEMORY3_{name.upper()}_METRICS_PORT"]
        for name in services.addresses
    }
    return {name: f"127.0.0.1:{port}" for name, port in ports.items() if port != "0"}


def _run(services: LocalServices, ready_timeout: float, output: Output) -> None:
    from memory3.cli.failures import warn

    leave = _stop_on_signal(services)
    ready = False
    print("starting the services ...", file=sys.stderr)
    try:
        services.start()
        services.wait_ready(ready_timeout, leave)
        ready = not leave.is_set()
        if ready:
            for warning in services.warnings():
                warn(warning)
            _print_ready(services, output)
        while not leave.wait(_POLL_S):
            services.check()
    finally:
        print("stopping the services ...", file=sys.stderr)
        exit_codes = services.stop()
    # Told to end before it is ready, a service may not have come as far as to heed the signal; it
    # holds nothing yet that could be lost.
    clean = {None, 0} if ready else {None, 0, -signal.SIGTERM}
    unclean = [f"{name} with {code}" for name, code in exit_codes.items() if code not in clean]
    if unclean:
        print(f"not all ended cleanly: {', '.join(unclean)}", file=sys.stderr)
        raise typer.Exit(1)


def _stop_on_signal(services: LocalServices) -> threading.Event:
    """An event that the first signal sets; the second ends the services at once."""
    import threading
    from types import FrameType

    leave = threading.Event()

    def on_signal(_: int, __: FrameType | None) -> None:
        if leave.is_set():
            services.kill()
        leave.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    return leave


def _print_ready(services: LocalServices, output: Output) -> None:
    from memory3.cli.output import print_json
    from memory3.sdk.addresses import DEFAULT_ADDRESSES

    if output is Output.JSON:
        folders = {"data": services.options.data, "logs": services.options.state}
        gateway = {"gateway": services.gateway_url} if services.gateway_url else {}
        told = {"addresses": services.addresses, "metrics": _metrics_at(services)}
        print_json({**told, **gateway, **folders})
        sys.stdout.flush()
        return
    print("memory3 is ready")
    for name, address in services.addresses.items():
        print(f"  {name:<9}  {address}")
    if services.gateway_url:
        print(f"  gateway    {services.gateway_url}  (the page; OpenAI's interface under /v1)")
    print(f"  banks      {services.options.data}")
    print(f"  logs       {services.options.state}")
    if services.addresses != DEFAULT_ADDRESSES:
        print("in other terminals:")
        for name, address in services.addresses.items():
            print(f"  export MEMORY3_{name.upper()}={address}")
        for service, port in _metrics_at(services).items():
            print(f"  export MEMORY3_METRICS_{service.upper()}={port}")
    print("Ctrl-C stops all of them", flush=True)
