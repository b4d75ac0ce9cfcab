"""A TCP proxy for tests: it delays, drips, swallows, cuts, counts, and speaks TLS if told to."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

_T = TypeVar("_T")

# What comes of an answer at a time where it drips.
_DRIP_BYTES, _DRIP_S = 16, 0.05


class TcpProxy:
    """Passes on what clients and a server say to one another, while the block runs.

    Attributes:
        port: Where clients connect.
        num_connections: How many have connected.
        delay_s: How long each answer is held back.
        swallows: Whether what clients say goes nowhere; they are connected nevertheless.
        is_mute: Whether what the server says goes nowhere.
        drips: Whether answers come a few bytes at a time.
        cut_after: Bytes of answers after which the connection is cut; None for never.

    Args:
        target: The port of the server, on this machine.
        context: How to speak TLS; None for none.
        port: Where to listen; 0 for a free one.
    """

    def __init__(self, target: int, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._target = target
        self._context = context
        self.port = port
        self.num_connections = 0
        self.delay_s = 0.0
        self.swallows = False
        self.is_mute = False
        self.drips = False
        self.cut_after: int | None = None
        self._listens = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def listen(self) -> None:
        """Take connections, on the same port as before."""

        async def start() -> asyncio.Server:
            return await asyncio.start_server(
                self._serve, "127.0.0.1", self.port, ssl=self._context
            )

        self._server = self._call(start())
        self._listens = True
        self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Close what there is, and have connections refused."""

        async def close() -> None:
            self._server.close()

        self._call(close())
        self._listens = False
        self.cut()

    def heal(self) -> None:
        """Pass on everything at once again; connections that have lost bytes are cut."""
        loses = self.swallows or self.is_mute
        self.delay_s = 0.0
        self.swallows = self.is_mute = self.drips = False
        self.cut_after = None
        if loses:
            self.cut()
        if not self._listens:
            self.listen()

    def cut(self) -> None:
        """Close all connections that there are."""

        async def cancel() -> None:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._call(cancel())

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # A client or server that leaves, and cut(), are what this is for.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                answers, requests = await asyncio.open_connection("127.0.0.1", self._target)
                try:
                    await self._both(reader, requests, answers, writer)
                finally:
                    requests.close()
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _both(
        self,
        reader: asyncio.StreamReader,
        requests: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        ways = [
            asyncio.ensure_future(self._pass_on(reader, requests, is_answer=False)),
            asyncio.ensure_future(self._pass_on(answers, writer, is_answer=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        num_passed = 0
        while data := await source.read(_DRIP_BYTES if is_answer and self.drips else 1 << 16):
            if is_answer:
                num_passed += len(data)
                if self.cut_after is not None and num_passed > self.cut_after:
                    return
                await asyncio.sleep(_DRIP_S if self.drips else self.delay_s)
            if not (self.is_mute if is_answer else self.swallows):
                sink.write(data)
                await sink.drain()


def server_context(
    certificate: tuple[Path, Path], client_authority: Path | None = None
) -> ssl.SSLContext:
    """How a server speaks TLS; with an authority it asks clients for a certificate of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if client_authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_authority)
    return context
