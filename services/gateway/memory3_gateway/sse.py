"""Server-sent events: an answer that comes in pieces, and what ends it early.

Until the first piece is there nothing is sent, so that an error still has its own status; after
that an error is an event of its own, which OpenAI's clients raise.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from memory3.errors import InternalError, Memory3Error
from memory3.rpc.logging import get_logger
from memory3_gateway.errors import body_of
from memory3_gateway.leaving import unless_left

_log = get_logger(__name__)

DONE: Final = b"data: [DONE]\n\n"
# Proxies hold an answer back otherwise, until it is whole.
_HEADERS: Final = {"cache-control": "no-cache", "x-accel-buffering": "no"}

Pieces = AsyncGenerator[dict[str, Any], None]
"""The JSON objects of a stream, in order."""


class EventStream(StreamingResponse):
    """Sends the pieces of an answer as events, and closes their generator whatever happens.

    Made by ``event_stream``.
    """

    def __init__(self, pieces: Pieces, first: dict[str, Any]) -> None:
        self._finished = False
        self._events = self._all(pieces, first)
        super().__init__(self._events, media_type="text/event-stream", headers=_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # A generator that is merely dropped would be closed some time later.
            await self._events.aclose()
            if not self._finished:
                scope.setdefault("state", {})["left"] = True

    async def _all(self, pieces: Pieces, first: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        async with aclosing(pieces):
            yield event(first)
            try:
                async for piece in pieces:
                    yield event(piece)
                yield DONE
            except Memory3Error as error:
                yield event(body_of(error))
            except Exception as error:
                _log.error("a stream failed by a defect", exc_info=error)
                yield event(body_of(InternalError("internal error", remedy="look into the log")))
            self._finished = True


async def event_stream(request: Request, pieces: Pieces) -> EventStream:
    """The response for a stream, once its first piece is there.

    Args:
        request: The request; its caller may leave.
        pieces: What to send; closed when the stream ends, however it ends.

    Raises:
        Memory3Error: The stream failed before its first piece.
    """
    try:
        first = await unless_left(request, _first(pieces))
    except BaseException:
        await pieces.aclose()
        raise
    return EventStream(pieces, first)


async def _first(pieces: Pieces) -> dict[str, Any]:
    return await anext(pieces)


def event(data: dict[str, Any]) -> bytes:
    """One event as it stands on the wire."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"
