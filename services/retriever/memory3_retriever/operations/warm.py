"""Writing every memory that is missing, a few at a time, so that breaking off loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.verify import Problem
from memory3_retriever.limits import Limit
from memory3_retriever.retrieval.lazy import LazyWriter

MAX_FAILURES = 100
# What is written between two tellings of the progress.
_BLOCK = 64


@dataclass(frozen=True, slots=True)
class WarmProgress:
    """How far warming is; the failures so far are at most ``MAX_FAILURES``."""

    num_done: int
    num_total: int
    num_failed: int
    failures: tuple[Problem, ...]


def warm(
    bank: LiveBank, writer: LazyWriter, limit: Limit, budget_s: float
) -> Iterator[WarmProgress]:
    """Have all missing memories written.

    Args:
        bank: The bank.
        writer: Writes them; retrievals that want the same ones share the work.
        limit: Whether anybody still waits.
        budget_s: How long one block may take.

    Raises:
        CheckpointMismatchError: The encoder has loaded another checkpoint or embedder.
        DeadlineExceededError: The caller's time is over; what was written stays.
    """
    keys = bank.store.vector_keys()
    todo = sorted(keys - bank.store.with_memory(keys))
    num_done, num_failed, failures = 0, 0, list[Problem]()
    yield WarmProgress(0, len(todo), 0, ())
    for start in range(0, len(todo), _BLOCK):
        limit.check()
        block = todo[start : start + _BLOCK]
        writer.write(bank, block, limit.timeout(budget_s))
        missing = bank.store.existing(block) - bank.store.with_memory(block)
        num_done += len(block)
        num_failed += len(missing)
        for key in sorted(missing)[: MAX_FAILURES - len(failures)]:
            why = (
                "its memory was not written; see the log of retriever and encoder, then warm again"
            )
            failures.append(Problem(key.hex(), "MEMORY_MISSING", why))
        yield WarmProgress(num_done, len(todo), num_failed, tuple(failures))
