"""What an operator would see meanwhile: health, memory, and whether the event loop keeps up."""

from __future__ import annotations

import re
import threading
import urllib.request
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memory3.rpc.channel import connect
from memory3.testing.processes import resident_bytes

_EVERY_S = 0.2
_LAG = re.compile(
    r'^memory3_event_loop_lag_seconds_bucket\{(?:.*,)?le="([^"]+)"[^}]*\} (\S+)$', re.M
)


class Watch:
    """Asks a service for its health and reads its memory, five times a second, in a thread.

    Attributes:
        num_checks: Health checks so far.
        num_unwell: Those that were not answered SERVING within a second.
        memory_bytes: Resident memory at each check, that of the model's process included.
    """

    def __init__(self, address: str, pid: int) -> None:
        self._address, self._pid = address, pid
        self.num_checks = self.num_unwell = 0
        self.memory_bytes: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with connect(self._address, retries=False) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            while not self._stop.wait(_EVERY_S):
                self.num_checks += 1
                try:
                    answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1.0)
                    self.num_unwell += answer.status != health_pb2.HealthCheckResponse.SERVING
                except grpc.RpcError:
                    self.num_unwell += 1
                self.memory_bytes.append(resident_bytes(self._pid))


class EventLoopLags:
    """The histogram of a service's event loop lag, from one moment to another.

    Args:
        metrics_port: Where the service shows its metrics.
    """

    def __init__(self, metrics_port: int) -> None:
        self._url = f"http://127.0.0.1:{metrics_port}/metrics"
        self._before = self._read()

    def percentile(self, share: float) -> float:
        """Seconds below which so large a share of the lags since then lies, as buckets tell it."""
        counts = {edge: count - self._before.get(edge, 0) for edge, count in self._read().items()}
        total = counts[float("inf")]
        return next(edge for edge, count in sorted(counts.items()) if count >= share * total)

    def _read(self) -> dict[float, float]:
        with urllib.request.urlopen(self._url, timeout=10) as page:
            return {float(e): float(c) for e, c in _LAG.findall(page.read().decode())}
