"""``memory3 status``: whether the three services answer, and how they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    from memory3.sdk.call import ServiceName

app = typer.Typer(add_completion=False)

_TIMEOUT_S = 2.0


@app.command(
    rich_help_panel="Services", epilog=examples("memory3 status", "memory3 status -o json")
)
def status(
    decoder: DecoderOption = None,
    retriever: RetrieverOption = None,
    encoder: EncoderOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the three services: address, health, checkpoint, load. Exit 1 unless all are ready."""
    from memory3.cli.output import print_json, print_table
    from memory3.sdk.addresses import address_of

    given: dict[ServiceName, str | None] = {
        "decoder": decoder,
        "retriever": retriever,
        "encoder": encoder,
    }
    states = [_state(name, address_of(name, address)) for name, address in given.items()]
    if output is Output.JSON:
        print_json(states)
    else:
        print_table(
            ["service", "address", "health", "version", "checkpoint", "details"],
            (
                (
                    state["service"],
                    state["address"],
                    state["health"],
                    state["info"]["version"] if state["info"] else "",
                    state["info"]["checkpoint"]["digest"][:12] if state["info"] else "",
                    _details(state["info"] or {}),
                )
                for state in states
            ),
        )
    if any(state["health"] != "ready" for state in states):
        raise typer.Exit(1)


def _state(service: ServiceName, address: str) -> dict[str, Any]:
    from memory3.cli.output import jsonable
    from memory3.client import Client
    from memory3.errors import Memory3Error

    health = _health(address)
    info: dict[str, Any] | None = None
    if health == "ready":
        addresses: dict[str, Any] = {service: address}
        with Client(**addresses, timeout=_TIMEOUT_S) as client:
            ask = {
                "decoder": client.decoder_info,
                "retriever": client.retriever_info,
                "encoder": client.encoder_info,
            }[service]
            try:
                info = jsonable(ask())
            except Memory3Error as error:
                health = error.reason.lower().replace("_", " ")
    return {"service": service, "address": address, "health": health, "info": info}


def _health(address: str) -> str:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from memory3.rpc.channel import connect
    from memory3.rpc.health import READINESS
    from memory3.rpc.security.outgoing import Outgoing

    outgoing = Outgoing.from_environment()
    with connect(
        address,
        retries=False,
        credentials=outgoing.credentials(),
        server_name=outgoing.tls_name,
    ) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=READINESS)
        try:
            answer = stub.Check(request, timeout=_TIMEOUT_S)
        except grpc.RpcError:
            return "no answer"
    ready = answer.status == health_pb2.HealthCheckResponse.SERVING
    return "ready" if ready else "not ready"


def _details(info: dict[str, Any]) -> str:
    names = {
        "num_running": "running",
        "num_waiting": "waiting",
        "num_slots": "slots",
        "dtype": "dtype",
        "num_banks": "banks",
        "cache": "cache",
        "cache_hits": "hits",
        "cache_misses": "misses",
        "embedder": "embedder",
        "default_codec": "codec",
    }
    return " ".join(f"{label}={info[name]}" for name, label in names.items() if name in info)
