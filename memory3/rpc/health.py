"""The phase a service is in, and ``grpc.health.v1`` telling it.

Four names are served: ``""`` and the full service name say whether to send work here, ``readiness``
the same for probes, and ``liveness`` only whether the process answers at all: loading and draining
are not death, so it is SERVING from the first moment to the last.
"""

from __future__ import annotations

import enum
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from memory3.errors import DrainingError, LoadingError
from memory3.rpc.servicer_health import ThreadHealthServicer, listed

LIVENESS = "liveness"
READINESS = "readiness"

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Phase(enum.Enum):
    """What a service is doing with its life."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    LEAVING = "leaving"


class Lifecycle:
    """The phase of one server; interceptors ask it whether calls may come in."""

    def __init__(self) -> None:
        self.phase = Phase.LOADING

    def check_ready(self) -> None:
        """Let a call through unless the service is still loading, or about to close.

        A draining service goes on answering: callers need time to see that it is leaving, and no
        call may be lost to that.

        Raises:
            LoadingError: The service is not ready yet.
            DrainingError: It takes no more calls.
        """
        if self.phase is Phase.LEAVING:
            raise DrainingError("the service is shutting down", remedy="call another replica")
        if self.phase is Phase.LOADING:
            raise LoadingError(
                "the service is still loading",
                remedy="wait for its health to be SERVING",
                retry_after_s=0.5,
            )

    def turn_away(self) -> None:
        """From now on every new call is told that the service is shutting down."""
        self.phase = Phase.LEAVING


class Health(Lifecycle):
    """Lifecycle and health of a thread-pool server.

    Args:
        service: The full service name, such as ``memory3.v1.EncoderService``.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._readiness_names = ("", service, READINESS)
        self._servicer = ThreadHealthServicer()
        self._servicer.set(LIVENESS, _SERVING)
        self._set_all(_NOT_SERVING)

    def add_to(self, server: grpc.Server) -> None:
        """Register with a server, before it starts."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    def set_ready(self) -> None:
        """Loaded and warm: work may be sent here."""
        self.phase = Phase.READY
        self._set_all(_SERVING)

    def set_draining(self) -> None:
        """Leaving: no new work, please."""
        self.phase = Phase.DRAINING
        self._set_all(_NOT_SERVING)

    def _set_all(self, status: int) -> None:
        for name in self._readiness_names:
            self._servicer.set(name, status)


class _AioHealthServicer(health.aio.HealthServicer):
    """That of grpcio-health-checking, which has no List."""

    def __init__(self) -> None:
        super().__init__()
        self._statuses: dict[str, int] = {}

    async def set(self, service: str, status: int) -> None:
        """Set a status, and tell who watches it."""
        self._statuses[service] = status
        await super().set(service, status)

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Tell the status of every name."""
        return listed(self._statuses)


class AioHealth(Lifecycle):
    """Lifecycle and health of an aio server; call ``start`` before the server starts.

    Args:
        service: The full service name, such as ``memory3.v1.DecoderService``.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._readiness_names = ("", service, READINESS)
        self._servicer = _AioHealthServicer()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server, before it starts."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        """Alive, and loading."""
        await self._servicer.set(LIVENESS, _SERVING)
        await self._set_all(_NOT_SERVING)

    async def set_ready(self) -> None:
        """Loaded and warm: work may be sent here."""
        self.phase = Phase.READY
        await self._set_all(_SERVING)

    async def set_draining(self) -> None:
        """Leaving: no new work, please."""
        self.phase = Phase.DRAINING
        await self._set_all(_NOT_SERVING)

    async def _set_all(self, status: int) -> None:
        for name in self._readiness_names:
            await self._servicer.set(name, status)
