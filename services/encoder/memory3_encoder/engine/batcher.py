"""Dynamic batching: items of many callers, taken in turns, worked on together by one thread.

Turns are per item, so a call of a thousand references does not keep a call of one waiting. A batch
is bounded by a budget of padded length, the queue by a number of items. It must not know what the
work is, nor torch or gRPC.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from memory3.errors import DrainingError, InternalError, Memory3Error, QueueFullError
from memory3.observability import tracing
from memory3.rpc.logging import get_logger
from memory3_encoder.engine.batch_spans import Batch, trace_batch
from memory3_encoder.engine.ticket import Deliver, Ticket

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_log = get_logger(__name__)

_MIN_RETRY_S, _MAX_RETRY_S = 0.05, 30.0
# How much the newest batch counts in the estimate of speed.
_NEWEST_SHARE = 0.2


@dataclass(frozen=True)
class Limits:
    """What bounds a batcher.

    Attributes:
        budget: The most padded length of a batch: its longest item times its number of items. An
            item longer than that makes a batch alone.
        max_waiting: The most items in the queue.
        linger_s: How long a batch with room left waits for more items, in seconds.
    """

    budget: int
    max_waiting: int
    linger_s: float = 0.0


class Batcher(Generic[ItemT, ResultT]):
    """Runs items in batches on its own thread.

    Args:
        name: The thread's name, also used in log lines.
        run: Does a batch and gives one result or error for each item, in order. If it raises, each
            item is tried alone, so that one bad item fails alone.
        length: The length of an item, at least 1.
        limits: What bounds queue and batches.
        observe: Called after each batch with its items, padded length and seconds.
        begin: Called first on the thread.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[ItemT]], Sequence[ResultT | Memory3Error]],
        length: Callable[[ItemT], int],
        limits: Limits,
        observe: Callable[[int, int, float], None],
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self._name, self._run, self._length = name, run, length
        self._begin = begin
        self._limits, self._observe = limits, observe
        self._changed = threading.Condition()
        self._turns: deque[Ticket[ItemT, ResultT]] = deque()
        self._num_waiting = 0
        self._waiting_length = 0
        self._seconds_per_length = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Items in the queue, without those being worked on."""
        return self._num_waiting

    def submit(
        self, items: Sequence[ItemT], deliver: Deliver[ResultT], *, window: int | None = None
    ) -> Ticket[ItemT, ResultT]:
        """Queue the items of one call; all or none.

        Args:
            items: What to do; may be empty.
            deliver: See ``Ticket``.
            window: See ``Ticket``.

        Raises:
            QueueFullError: There is no room; ``retry_after_s`` estimates when there is.
            DrainingError: The batcher is closed.
        """
        ticket: Ticket[ItemT, ResultT] = Ticket(items, deliver, window)
        with self._changed:
            if self._closed:
                raise _draining()
            if self._num_waiting + len(items) > self._limits.max_waiting:
                raise self._full(len(items))
            self._num_waiting += len(items)
            self._waiting_length += sum(map(self._length, items))
            if items:
                self._turns.append(ticket)
                self._changed.notify_all()
        return ticket

    def taken(self, ticket: Ticket[ItemT, ResultT]) -> None:
        """Tell that the caller has taken one result, which makes room in its window."""
        with self._changed:
            ticket.mark_taken()
            self._changed.notify_all()

    def cancel(self, ticket: Ticket[ItemT, ResultT]) -> None:
        """Drop what a call still has in the queue; nothing is delivered to it any more."""
        with self._changed:
            ticket.cancelled = True
            self._withdraw(ticket)

    def close(self) -> None:
        """Finish the batch being worked on, fail what waits with DrainingError, end the thread."""
        with self._changed:
            self._closed = True
            left = [(ticket, self._withdraw(ticket)) for ticket in tuple(self._turns)]
            self._changed.notify_all()
        for ticket, items in left:
            for index, _ in items:
                ticket.deliver(index, _draining())
        self._thread.join()

    def _withdraw(self, ticket: Ticket[ItemT, ResultT]) -> list[tuple[int, ItemT]]:
        items = list(ticket.waiting)
        ticket.waiting.clear()
        self._num_waiting -= len(items)
        self._waiting_length -= sum(self._length(item) for _, item in items)
        if ticket in self._turns:
            self._turns.remove(ticket)
        return items

    def _full(self, num_items: int) -> QueueFullError:
        wait_s = self._waiting_length * self._seconds_per_length
        return QueueFullError(
            f"{self._num_waiting} items wait, and {num_items} more would be above the limit of "
            f"{self._limits.max_waiting}",
            remedy="try again after the delay",
            metadata={"limit": str(self._limits.max_waiting), "queue": self._name},
            retry_after_s=min(max(wait_s, _MIN_RETRY_S), _MAX_RETRY_S),
        )

    def _work(self) -> None:
        self._begin()
        while batch := self._next_batch():
            started = time.perf_counter()
            results = self._results(batch)
            self._account([self._length(item) for _, _, item in batch], started)
            if tracing.enabled():
                trace_batch(self._name, batch, self._length, started)
            for (ticket, index, _), result in zip(batch, results, strict=True):
                if not ticket.cancelled:
                    ticket.deliver(index, result)

    def _account(self, lengths: Sequence[int], started: float) -> None:
        seconds = time.perf_counter() - started
        newest = seconds / sum(lengths)
        before = self._seconds_per_length or newest
        self._seconds_per_length = before + _NEWEST_SHARE * (newest - before)
        self._observe(len(lengths), max(lengths) * len(lengths), seconds)

    def _next_batch(self) -> Batch[ItemT, ResultT]:
        """The next batch; empty once closed."""
        with self._changed:
            while not self._closed:
                self._changed.wait_for(lambda: self._closed or self._ready())
                self._linger()
                # All callers may have gone away in the meantime.
                if batch := self._collect():
                    return batch
            return []

    def _collect(self) -> Batch[ItemT, ResultT]:
        batch: Batch[ItemT, ResultT] = []
        longest = 0
        while (ticket := self._next_turn()) is not None:
            longest = max(longest, self._length(ticket.waiting[0][1]))
            if batch and longest * (len(batch) + 1) > self._limits.budget:
                break
            batch.append((ticket, *self._start(ticket)))
        return batch

    def _linger(self) -> None:
        until = time.monotonic() + self._limits.linger_s
        while not self._closed and self._waiting_length < self._limits.budget:
            left = until - time.monotonic()
            if left <= 0:
                return
            self._changed.wait(left)

    def _ready(self) -> bool:
        return any(ticket.eligible for ticket in self._turns)

    def _next_turn(self) -> Ticket[ItemT, ResultT] | None:
        """The call whose turn it is; those whose window is full are passed over."""
        for _ in range(len(self._turns)):
            if self._turns[0].eligible:
                return self._turns[0]
            self._turns.rotate(-1)
        return None

    def _start(self, ticket: Ticket[ItemT, ResultT]) -> tuple[int, ItemT]:
        index, item = ticket.start_next()
        self._num_waiting -= 1
        self._waiting_length -= self._length(item)
        self._turns.popleft()
        if ticket.waiting:
            self._turns.append(ticket)
        return index, item

    def _results(self, batch: Batch[ItemT, ResultT]) -> Sequence[ResultT | Memory3Error]:
        try:
            return self._run([item for _, _, item in batch])
        except Exception as error:
            if len(batch) == 1:
                # In the caller's context: the log line of a defect names its request.
                return [batch[0][0].context.copy().run(self._typed, error)]
            _log.warning("a batch failed; trying its items alone", queue=self._name)
            return [self._results([each])[0] for each in batch]

    def _typed(self, error: Exception) -> Memory3Error:
        if isinstance(error, Memory3Error):
            return error
        _log.error("an item failed by a defect", queue=self._name, exc_info=error)
        return InternalError(
            "internal error in the encoder", remedy="look at this time in the service's log"
        )


def _draining() -> DrainingError:
    return DrainingError(
        "the encoder is shutting down", remedy="try again; another replica may answer"
    )
