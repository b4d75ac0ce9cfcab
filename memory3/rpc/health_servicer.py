"""``grpc.health.v1`` for a thread-pool server: checks, and watchers that hold no thread.

The library's own servicer sends to a watcher while it holds the lock that the end of any other
watch waits for, on the one thread that all sending needs: two watches, one beginning and one
ending, can stop a server for ever. Here nothing is sent under a lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_Send = Callable[[Any], None]


class _Watcher:
    """One caller who wants to hear of changes.

    Attributes:
        service: What it watches.
        send: Sends to it; None ends the call.
        told: The status it heard of last; None before the first.
    """

    def __init__(self, service: str, send: _Send) -> None:
        self.service, self.send = service, send
        self.told: int | None = None


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Tells the status of names."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._statuses: dict[str, int] = {}
        self._watchers: set[_Watcher] = set()
        # One thread, so that a watcher hears of changes in their order.
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="health-watch")

    def set(self, service: str, status: int) -> None:
        """Change the status of a name; whoever watches it is told, and nobody is waited for."""
        with self._lock:
            self._statuses[service] = status
            concerned = [each for each in self._watchers if each.service == service]
        for watcher in concerned:
            self._sender.submit(self._tell, watcher)

    def Check(  # noqa: N802 -- the method's name in the protocol
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """The status now; NOT_FOUND for a name that is not served."""
        with self._lock:
            status = self._statuses.get(request.service)
        if status is None:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            return health_pb2.HealthCheckResponse()
        return health_pb2.HealthCheckResponse(status=status)

    def Watch(  # type: ignore[override]  # noqa: N802
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.ServicerContext,
        send_response_callback: _Send,
    ) -> None:
        """The status now and whenever it changes; gRPC hands over a way to send, not a thread."""
        watcher = _Watcher(request.service, send_response_callback)
        with self._lock:
            self._watchers.add(watcher)
        if not context.add_callback(lambda: self._forget(watcher)):
            self._forget(watcher)
            return
        self._sender.submit(self._tell, watcher)

    Watch.experimental_non_blocking = True  # type: ignore[attr-defined]

    def _tell(self, watcher: _Watcher) -> None:
        with self._lock:
            unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            status = self._statuses.get(watcher.service, unknown)
            if watcher not in self._watchers or status == watcher.told:
                return
        watcher.told = status
        watcher.send(health_pb2.HealthCheckResponse(status=status))

    def _forget(self, watcher: _Watcher) -> None:
        with self._lock:
            self._watchers.discard(watcher)
        watcher.send(None)
