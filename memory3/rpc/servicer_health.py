"""``grpc.health.v1`` on a thread-pool server: who watches is told of changes, and holds no thread.

The servicer of grpcio-health-checking sends to a watcher while it holds the lock that the server's
one polling thread takes when another watcher leaves; sending waits for that thread, and from then
on the server answers nobody (1.85.1). Here nothing is sent under a lock that the polling thread
takes. It must not know phases; ``memory3.rpc.health`` sets what is told.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_Send = Callable[[health_pb2.HealthCheckResponse], None]

# Told side by side, so that one who does not read holds up no other.
_NUM_SENDERS: Final = 4


class _Watcher:
    """One who is told of a status, each time that it has changed."""

    def __init__(self, read: Callable[[], int], send: _Send) -> None:
        self._read, self._send = read, send
        self._lock = threading.Lock()
        self._told: int | None = None

    def tell(self) -> None:
        """Send the status as it is by now, unless that was the last one sent."""
        with self._lock:
            status = self._read()
            if status != self._told:
                self._told = status
                self._send(health_pb2.HealthCheckResponse(status=status))


def listed(statuses: Mapping[str, int]) -> Any:
    """What List answers.

    Args:
        statuses: Of every name.
    """
    made = {
        name: health_pb2.HealthCheckResponse(status=status) for name, status in statuses.items()
    }
    # Newer than what is known of the types of this package.
    return health_pb2.HealthListResponse(statuses=made)  # type: ignore[attr-defined]


class ThreadHealthServicer(health_pb2_grpc.HealthServicer):
    """Tells the status of each name, once or whenever it changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._statuses: dict[str, int] = {}
        self._watchers: dict[str, set[_Watcher]] = {}
        self._senders = ThreadPoolExecutor(_NUM_SENDERS, thread_name_prefix="health-watch")

    def set(self, service: str, status: int) -> None:
        """Set a status; returns before the watchers have been told."""
        with self._lock:
            self._statuses[service] = status
            watchers = tuple(self._watchers.get(service, ()))
        for watcher in watchers:
            self._senders.submit(watcher.tell)

    def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Tell a status as it is; NOT_FOUND for a name that has none."""
        status = self._statuses.get(request.service)
        if status is None:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            return health_pb2.HealthCheckResponse()
        return health_pb2.HealthCheckResponse(status=status)

    def List(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Tell the status of every name."""
        with self._lock:
            return listed(self._statuses)

    def Watch(  # type: ignore[override]
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.ServicerContext,
        send_response_callback: Any,
    ) -> None:
        """Tell a status now and after every change; the call goes on when this has returned."""
        name = request.service
        unknown = int(health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        watcher = _Watcher(lambda: self._statuses.get(name, unknown), send_response_callback)
        with self._lock:
            self._watchers.setdefault(name, set()).add(watcher)
        if context.add_callback(lambda: self._forget(name, watcher)):
            watcher.tell()
        else:  # the caller has left already
            self._forget(name, watcher)

    # What grpc's server looks for: it passes a way to send, and does not wait for an iterator.
    Watch.experimental_non_blocking = True  # type: ignore[attr-defined]

    def _forget(self, name: str, watcher: _Watcher) -> None:
        """On the server's polling thread, which must never wait for a sender."""
        with self._lock:
            watchers = self._watchers.get(name, set())
            watchers.discard(watcher)
            if not watchers:
                self._watchers.pop(name, None)
