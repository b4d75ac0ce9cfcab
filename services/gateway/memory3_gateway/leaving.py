"""What happens when a caller leaves before its answer is there: the work for it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from memory3.errors import RequestCancelledError

ResultT = TypeVar("ResultT")


async def unless_left(request: Request, work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """The result of some work, which is cancelled if the caller leaves meanwhile.

    Args:
        request: Whose body has been read.
        work: What the answer waits for.

    Raises:
        RequestCancelledError: The caller left; the calls that the work was making are cancelled.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise RequestCancelledError("the caller left before the answer was there")
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            # Not left behind: what it holds is free once this returns.
            await asyncio.wait((working,))


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
