"""A real service process to attack, and an ordinary client that notices when it is well again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memory3.rpc.channel import connect
from memory3.rpc.health import READINESS
from memory3.testing.processes import resident_bytes

_PATIENCE_S = 120.0
_POLL_S = 0.02


class Attacked:
    """A service that runs until ``close``.

    Args:
        module: Its module, such as ``memory3_decoder``.
        folder: For its log and port file.
        options: Of its command.

    Attributes:
        address: Where it listens.
    """

    def __init__(self, module: str, folder: Path, *options: object) -> None:
        self._log = folder / f"{module}.log"
        port_file = folder / f"{module}.port"
        command = [sys.executable, "-m", module, "--port", "0", "--port-file", str(port_file)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *map(str, options)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._wait(lambda: port_file.exists() and bool(port_file.read_text().strip()), _PATIENCE_S)
        self.address = f"127.0.0.1:{port_file.read_text().strip()}"
        self._wait(self.is_serving, _PATIENCE_S)

    @property
    def rss_bytes(self) -> int:
        """The main memory that it takes, with the processes that it started."""
        return resident_bytes(self._process.pid)

    def is_serving(self) -> bool:
        """Whether its health says so to a caller who comes anew."""
        with connect(self.address, retries=False) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            try:
                request = health_pb2.HealthCheckRequest(service=READINESS)
                status = health.Check(request, timeout=5).status
            except grpc.RpcError:
                return False
        return bool(status == health_pb2.HealthCheckResponse.SERVING)

    def seconds_until(self, condition: Callable[[], bool]) -> float:
        """How long it takes until something is so, while the process lives."""
        begun = time.monotonic()
        self._wait(condition, _PATIENCE_S)
        return time.monotonic() - begun

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _wait(self, condition: Callable[[], bool], patience_s: float) -> None:
        end = time.monotonic() + patience_s
        while not condition():
            tail = self._log.read_text()[-2000:]
            assert self._process.poll() is None, f"it ended: {tail}"
            assert time.monotonic() < end, f"it did not come to be: {tail}"
            time.sleep(_POLL_S)
