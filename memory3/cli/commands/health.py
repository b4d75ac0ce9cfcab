"""``memory3 health``: one probe of one service, for engines that cannot ask by gRPC themselves."""

from __future__ import annotations

from typing import Annotated, Any

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
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from memory3.cli.output import emit
    from memory3.rpc.channel import connect
    from memory3.rpc.security.outgoing import Outgoing

    outgoing = Outgoing.from_environment()
    with connect(
        address,
        retries=False,
        credentials=outgoing.credentials(),
        server_name=outgoing.tls_name,
    ) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            answer = stub.Check(request, timeout=timeout)
            state = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        except grpc.RpcError as error:
            state = error.code().name
    emit(output, {"address": address, "service": service, "state": state}, {service: state})
    if state != "SERVING":
        raise typer.Exit(1)
