"""Running a server as the main thing of a process: start, load, serve, drain on a signal, leave.

SIGTERM or SIGINT → NOT_SERVING → ``drain_seconds`` in which calls are still answered → a moment in
which new ones are told to go elsewhere → stop with grace → return, for an exit code of 0. A second
signal while draining ends calls in flight at once.
"""

from __future__ import annotations

import asyncio
import gc
import select
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from types import FrameType
from typing import Self

from memory3.rpc.logging import get_logger
from memory3.rpc.server import AioRpcServer, RpcServer

_log = get_logger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

# A call that arrives while gRPC's server closes is cancelled, which no caller expects or tries
# again. So callers are told first, with UNAVAILABLE, and what they have just sent has arrived.
_TURNING_AWAY_S = 0.25


class _LeaveWhileLoadingError(BaseException):
    """A signal came before the service was ready; not an Exception, so that no loader eats it."""


class _Signals:
    """Hands signals to the waiting main thread; while loading, the first interrupts the loader.

    The interpreter writes each signal's number into a socket, and the main thread waits for that.
    A Python handler that sets an event would not do: it runs on the thread that waits, between any
    two of its steps, where the event's lock may be held by this very thread; and a signal that
    comes just before the thread blocks would be noticed only when something else wakes it.
    """

    def __init__(self, numbers: tuple[int, ...] = _SIGNALS) -> None:
        self.loading = True
        self._numbers = numbers
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        self._reader, writer = socket.socketpair()
        for end in (self._reader, writer):
            end.setblocking(False)
            self._cleanup.callback(end.close)
        # A full socket has more than enough signals in it: nothing to warn of.
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._cleanup.callback(signal.set_wakeup_fd, before)
        for number in self._numbers:
            self._cleanup.callback(signal.signal, number, signal.signal(number, self._on_signal))
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Take the next signal; False if none came in that many seconds."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            if not select.select([self._reader], [], [], left)[0]:
                return False
            if self._reader.recv(1)[0] in self._numbers:
                return True

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        if self.loading:
            self.loading = False
            raise _LeaveWhileLoadingError


def serve_until_signal(
    server: RpcServer,
    *,
    load: Callable[[], None] | None = None,
    close: Callable[[], None] | None = None,
) -> None:
    """Run a thread-pool server until SIGTERM or SIGINT. Call it on the main thread.

    Args:
        server: Built, not started.
        load: Loads and warms up what the servicers need, while health says NOT_SERVING.
        close: Releases it, after the last call has ended.

    Raises:
        Memory3Error: What ``load`` raised, after the server was stopped.
    """
    hurry = False
    with _Signals() as signals:
        try:
            server.start()
            _log.info("listening", address=server.address)
            if load is not None:
                load()
            _keep_loaded()
            signals.loading = False
            server.health.set_ready()
            _log.info("ready")
            signals.wait()
            server.health.set_draining()
            _log.info("draining", seconds=server.options.drain_seconds)
            hurry = signals.wait(server.options.drain_seconds)
            server.health.turn_away()
            hurry = hurry or signals.wait(_TURNING_AWAY_S)
        except _LeaveWhileLoadingError:
            _log.info("left while loading")
        finally:
            signals.loading = False
            server.stop(0 if hurry else None)
            if close is not None:
                close()
            _log.info("stopped")


async def aio_serve_until_signal(
    server: AioRpcServer,
    *,
    load: Callable[[], Awaitable[None]] | None = None,
    close: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Run an aio server until SIGTERM or SIGINT. Await it on the main thread's event loop.

    Args:
        server: Built, not started.
        load: Loads and warms up what the servicers need, off the event loop, while health says
            NOT_SERVING.
        close: Releases it, after the last call has ended.

    Raises:
        Memory3Error: What ``load`` raised, after the server was stopped.
    """
    first, second = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (second if first.is_set() else first).set()

    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        await server.start()
        _log.info("listening", address=server.address)
        if load is None or await _finished_before(load, first):
            _keep_loaded()
            await server.health.set_ready()
            _log.info("ready")
            await first.wait()
            await server.health.set_draining()
            _log.info("draining", seconds=server.options.drain_seconds)
            await _wait(second, server.options.drain_seconds)
            server.health.turn_away()
            await _wait(second, _TURNING_AWAY_S)
        else:
            _log.info("left while loading")
    finally:
        await server.stop(0 if second.is_set() else None)
        if close is not None:
            await close()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        _log.info("stopped")


def _keep_loaded() -> None:
    """Leave what was loaded out of the rounds of Python's garbage collector.

    A full round looks at every object, and a process with torch has some 300,000: nothing was
    answered for 0.2 to 0.9 s, every half minute under load. What is not needed any more goes first.
    """
    gc.collect()
    gc.freeze()


async def _finished_before(load: Callable[[], Awaitable[None]], leave: asyncio.Event) -> bool:
    loading = asyncio.ensure_future(load())
    leaving = asyncio.ensure_future(leave.wait())
    try:
        await asyncio.wait((loading, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            loading.cancel()
            await asyncio.wait((loading,))
            return False
        loading.result()
        return True
    finally:
        leaving.cancel()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
