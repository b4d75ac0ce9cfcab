"""What a batch tells the traces of those whose items are in it.

A batch serves many callers, so each of their traces gets a span of its own of it: how long the
caller waited for it, how large it was, and how much of it was the caller's.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from memory3.observability import tracing
from memory3_encoder.engine.ticket import Ticket

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

# Who asked, the place of the item in what it asked, the item.
Batch = list[tuple[Ticket[ItemT, ResultT], int, ItemT]]


def trace_batch(
    work: str, batch: Batch[ItemT, ResultT], length: Callable[[ItemT], int], started: float
) -> None:
    """Note a batch that has just ended in the trace of each of its callers.

    Args:
        work: ``encode`` or ``embed``.
        batch: Its items.
        length: The length of an item.
        started: When it began, on ``time.perf_counter``.
    """
    ended = time.perf_counter()
    num_tokens = sum(length(item) for _, _, item in batch)
    for ticket, num_own in Counter(ticket for ticket, _, _ in batch).items():
        if ticket.queued_at is not None:
            tracing.record(f"encoder.queue.{work}", ticket.queued_at, started, ticket.span)
            ticket.queued_at = None
        tracing.record(
            f"encoder.batch.{work}",
            started,
            ended,
            ticket.span,
            batch_size=len(batch),
            num_own=num_own,
            num_tokens=num_tokens,
        )
