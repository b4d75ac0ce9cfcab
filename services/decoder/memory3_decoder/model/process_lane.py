"""The model in a process of its own.

Python runs one thread at a time. With the model on a thread of the service, each of the hundreds of
small operations of a step waits for whatever the event loop is at; in a process of its own it waits
for nothing but its next call. The two share a socket and nothing else, so that neither outlives the
other: the process ends when its socket is closed, and the decoder when its model is gone.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from memory3.errors import DrainingError, InternalError, Memory3Error
from memory3_decoder.model.frames import Frames, frame
from memory3_decoder.model.messages import CallEncoder


class ProcessLane(asyncio.Protocol):
    """A worker in a process; make it with ``ProcessLane.start``.

    Attributes:
        pid: The process.
        lost: Why it is no more; None while it is there.
        on_lost: Called when it has ended by itself.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self.lost: InternalError | None = None
        self.on_lost: Callable[[], None] = lambda: None
        self._process = process
        self._outgoing = CallEncoder()
        self._frames = Frames()
        # Methods called and who waits for the answers, which come in the same order.
        self._calls: deque[tuple[str, asyncio.Future[Any]]] = deque()
        self._transport: asyncio.WriteTransport | None = None
        self._is_closing = False

    @classmethod
    async def start(cls, num_threads: int, cpus: frozenset[int], device: str) -> ProcessLane:
        """Start the process; it takes calls at once, and works on them when it is ready.

        Args:
            num_threads: Threads torch may use inside one operation.
            cpus: Processors that it is bound to; none leaves it to the system.
            device: Where the model runs.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            options = [str(theirs.fileno()), str(num_threads), device, *map(str, sorted(cpus))]
            process = subprocess.Popen(
                [sys.executable, "-m", "memory3_decoder.model.process", *options],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        loop = asyncio.get_running_loop()
        _, lane = await loop.create_unix_connection(lambda: cls(process), sock=ours)
        return lane

    async def call(self, method: str, *arguments: Any) -> Any:
        """Have a method called in the process."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._send(method, arguments, future)
        return await future

    def post(self, method: str, *arguments: Any) -> None:
        """Have a method called in the process, and go on."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.cancel()  # nobody waits
        self._send(method, arguments, future)

    async def close(self) -> None:
        """End the process at once; it holds nothing that anybody needs later."""
        self._is_closing = True
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        if not isinstance(transport, asyncio.WriteTransport):
            raise AssertionError("a socket that cannot be written to")
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers have come, or pieces of them."""
        for message in self._frames.feed(data):
            method, future = self._calls.popleft()
            if future.done():  # who waited has gone
                continue
            try:
                future.set_result(self._outgoing.result(method, message))
            except Exception as error:
                future.set_exception(error)

    def connection_lost(self, _: Exception | None) -> None:
        """The process has ended, or was ended."""
        error: Memory3Error = DrainingError("the decoder is shutting down", remedy="try another")
        if not self._is_closing:
            error = self.lost = InternalError(
                f"the model's process {self._how_it_ended()}",
                remedy="look at what the decoder and the system logged before, memory above all",
            )
        for _method, future in self._calls:
            if not future.done():
                future.set_exception(error)
        self._calls.clear()
        if self.lost is not None:
            self.on_lost()

    def _send(self, method: str, arguments: tuple[Any, ...], future: asyncio.Future[Any]) -> None:
        if self.lost is not None:
            raise self.lost
        if self._transport is None or self._is_closing:
            raise DrainingError("the decoder is shutting down", remedy="try another")
        self._transport.write(frame(self._outgoing.call(method, arguments)))
        self._calls.append((method, future))

    def _how_it_ended(self) -> str:
        # Its socket is closed, so it is ending if it has not ended.
        code = self._process.wait()
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
