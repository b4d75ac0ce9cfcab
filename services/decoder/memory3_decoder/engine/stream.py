"""The events of one request on their way to the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Self

from memory3.errors import Memory3Error
from memory3_decoder.events import Event


class EventStream:
    """Iterate over it to get the events; ``cancel`` it, or use it as a context, to stop early.

    Args:
        on_cancel: Called once if the caller leaves before the end.
    """

    def __init__(self, on_cancel: Callable[[], None]) -> None:
        self._events: asyncio.Queue[Event | Memory3Error | None] = asyncio.Queue()
        self._on_cancel = on_cancel
        self._closed = False

    def put_all(self, events: Iterable[Event]) -> None:
        """Give the caller events, in their order."""
        for event in events:
            self._events.put_nowait(event)

    def fail(self, error: Memory3Error) -> None:
        """End the stream with an error, after the events before it."""
        if not self._closed:
            self._close(error)

    def end(self) -> None:
        """End the stream."""
        if not self._closed:
            self._close(None)

    def cancel(self) -> None:
        """Stop generating; does nothing once the stream has ended."""
        if not self._closed:
            on_cancel = self._on_cancel
            self._close(None)
            on_cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        item = await self._events.get()
        if item is None or isinstance(item, Memory3Error):
            self._events.put_nowait(None)
            if item is None:
                raise StopAsyncIteration
            raise item
        return item

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def _close(self, last: Memory3Error | None) -> None:
        self._closed = True
        self._events.put_nowait(last)
        # It holds the request, which holds this stream: let go, so that the memories of a request
        # are freed when it ends and not when the garbage collector next looks for cycles.
        self._on_cancel = _nothing


def _nothing() -> None:
    pass
