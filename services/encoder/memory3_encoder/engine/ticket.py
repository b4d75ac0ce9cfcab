"""One caller's place in a batcher: what is still to be done for it, and where results go.

It must not know what the work is. All fields are guarded by the batcher's lock.
"""

from __future__ import annotations

import contextvars
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from memory3.errors import Memory3Error
from memory3.observability import tracing

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

Deliver = Callable[[int, "ResultT | Memory3Error"], None]


class Ticket(Generic[ItemT, ResultT]):
    """The work of one call.

    Args:
        items: What to do, in the order in which it should start.
        deliver: Called with the position in ``items`` and the result or its error, on the
            batcher's thread; it must not block.
        window: The most results that may be on their way to the caller before it has taken any,
            so that a slow caller does not pile up memories here. None for no limit.
    """

    def __init__(
        self, items: Sequence[ItemT], deliver: Deliver[ResultT], window: int | None
    ) -> None:
        self.waiting: deque[tuple[int, ItemT]] = deque(enumerate(items))
        self.deliver = deliver
        self.cancelled = False
        # The caller's: log lines and spans of its work carry its ids.
        self.context = contextvars.copy_context()
        self.span = tracing.current()
        self.queued_at: float | None = time.perf_counter()
        self._window = window
        self._untaken = 0

    @property
    def eligible(self) -> bool:
        """Whether an item of this call may go into a batch now."""
        has_room = self._window is None or self._untaken < self._window
        return bool(self.waiting) and has_room

    def start_next(self) -> tuple[int, ItemT]:
        """Take the next item into a batch."""
        self._untaken += 1
        return self.waiting.popleft()

    def mark_taken(self) -> None:
        """The caller has taken a result."""
        self._untaken -= 1
