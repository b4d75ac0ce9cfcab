"""Asking a service for its health, as a client would: with the certificates it has to show."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memory3.rpc.channel import connect
from memory3.rpc.security.outgoing import Outgoing

SERVING = "SERVING"


def ask_health(
    address: str, service: str, timeout_s: float, outgoing: Outgoing | None = None
) -> str:
    """What a service says of itself.

    Args:
        address: ``HOST:PORT``.
        service: A name that ``memory3.rpc.health`` serves, such as ``readiness``.
        timeout_s: How long to wait.
        outgoing: What to connect with; None for what the environment says.

    Returns:
        ``SERVING``, ``NOT_SERVING``, or the name of the gRPC code that came instead, such as
        ``UNAVAILABLE``.

    Raises:
        SettingsError: A certificate or key cannot be used.
    """
    outgoing = outgoing or Outgoing.from_environment()
    with connect(
        address,
        retries=False,
        watches_health=False,
        credentials=outgoing.credentials(),
        server_name=outgoing.tls_name,
    ) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError as error:
            call: Any = error
            return str(call.code().name)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
