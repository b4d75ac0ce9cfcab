"""Whom the engine takes on: who finds room, and whose answer would still come in time.

A queue that is longer than its callers' patience makes an overloaded decoder work for those who
will have gone: their memories are looked for, their prompts read, and nobody gets the answer. So a
request that has to wait, and has a deadline, is refused at once where what was seen of the slots so
far says that it would end too late. One that finds a free slot is always taken.

It must not know sequences, prompts or the model: an estimate from the last few answers is enough.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from memory3.errors import InvalidArgumentError, QueueFullError
from memory3_decoder.metrics import DecoderMetrics
from memory3_decoder.parameters import Demand

# About as many of the last observations count.
_MEMORY = 16

# Answers differ in length, and machines are slower at times. Under steady overload every request
# that is taken is one that was only just taken, so without this half of them would come too late.
_CAUTION = 1.5

# Told while nothing has been observed, and the bounds of what is told then.
_UNKNOWN_S, _MIN_RETRY_S, _MAX_RETRY_S = 1.0, 0.05, 30.0


class Average:
    """The mean of the last few values, the newest counting most; None before the first."""

    def __init__(self) -> None:
        self.value: float | None = None
        self._count = 0

    def add(self, value: float) -> None:
        """Take in a value."""
        self._count = min(self._count + 1, _MEMORY)
        before = value if self.value is None else self.value
        self.value = before + (value - before) / self._count


class Turnover:
    """How fast slots come free and answers are made, seen on those before; on one event loop.

    Args:
        num_slots: Sequences decoded at the same time.
        clock: Seconds that only grow.
    """

    def __init__(self, num_slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._num_slots = num_slots
        self._clock = clock
        self._begun: dict[int, float] = {}
        self._held_s = Average()  # by everybody, also by those who left early
        self._answer_s, self._answer_tokens = Average(), Average()

    def begin(self, slot: int) -> None:
        """A sequence took a slot."""
        self._begun[slot] = self._clock()

    def end(self, slot: int, max_tokens: int | None) -> None:
        """A sequence gave a slot back.

        Args:
            slot: Which.
            max_tokens: The most tokens that it asked for, if it was answered whole; else None.
        """
        held_s = self._clock() - self._begun.pop(slot)
        self._held_s.add(held_s)
        if max_tokens is not None:
            self._answer_s.add(held_s)
            self._answer_tokens.add(max_tokens)

    def wait_s(self, num_slots: int) -> float | None:
        """Seconds until so many slots have come free; None before the first has."""
        if self._held_s.value is None:
            return None
        return max(0, num_slots) * self._held_s.value / self._num_slots

    def check_start(self, wanted: Demand) -> None:
        """Let a request that has waited have a slot, if its answer can still come in time.

        Raises:
            QueueFullError: It has less time left than answers take.
        """
        if wanted.deadline is None:
            return
        left_s, needed_s = wanted.deadline - time.monotonic(), self.answer_s(wanted.max_tokens)
        if left_s < needed_s:
            raise _full(
                f"it waited too long: {left_s:.1f} s are left, and its answer takes {needed_s:.1f}",
                self.wait_s(1),
                field="deadline",
            )

    def answer_s(self, max_tokens: int) -> float:
        """Seconds in a slot that an answer takes; one that asks for less than usual takes less.

        Args:
            max_tokens: The most tokens that it asks for.
        """
        if self._answer_s.value is None or not self._answer_tokens.value:
            return 0.0
        return self._answer_s.value * min(1.0, max_tokens / self._answer_tokens.value)


@dataclass(frozen=True)
class Line:
    """Where a new request would stand.

    Attributes:
        num_running: Slots in use.
        num_waiting: Sequences without a slot.
        num_before: Those of them that would begin before the last choice of the new one.
    """

    num_running: int
    num_waiting: int
    num_before: int


class Admission:
    """Takes requests on or refuses them, with the time after which to come again.

    Args:
        num_slots: Sequences decoded at the same time.
        queue_size: Sequences that may wait for a slot; as many scoring calls may wait too.
        turnover: What was seen of the slots.
        metrics: Counts.
    """

    def __init__(
        self, num_slots: int, queue_size: int, turnover: Turnover, metrics: DecoderMetrics
    ) -> None:
        self._num_slots = num_slots
        self._queue_size = queue_size
        self._turnover = turnover
        self._metrics = metrics
        self._scoring_s = Average()

    def check(self, wanted: Demand, line: Line) -> None:
        """Let a request in.

        Args:
            wanted: What is asked for.
            line: Where it would stand.

        Raises:
            QueueFullError: There is no room, or its answer would come too late.
            InvalidArgumentError: Its choices would never fit.
        """
        num_choices, room = wanted.num_choices, self._num_slots + self._queue_size
        if num_choices > room:
            raise InvalidArgumentError(
                f"{num_choices} choices never fit into {self._num_slots} slots and "
                f"{self._queue_size} places of the queue",
                field="sampling.n",
                remedy="ask for fewer choices at once",
            )
        num_missing = line.num_running + line.num_waiting + num_choices - room
        if num_missing > 0:
            self._metrics.refused.labels("queue_full").inc()
            raise _full(
                f"{line.num_waiting} sequences are waiting", self._turnover.wait_s(num_missing)
            )
        if wanted.deadline is not None:
            self._check_time(wanted, wanted.deadline - time.monotonic(), line)

    def check_scoring(self, num_scoring: int) -> None:
        """Let a scoring call in.

        Args:
            num_scoring: Those at work.

        Raises:
            QueueFullError: There is no room.
        """
        if num_scoring > self._queue_size:
            self._metrics.refused.labels("queue_full").inc()
            each_s = self._scoring_s.value
            raise _full(
                f"{num_scoring} scoring calls are at work",
                None if each_s is None else each_s / num_scoring,
            )

    def scored(self, seconds: float) -> None:
        """Take in how long a scoring call took."""
        self._scoring_s.add(seconds)

    def _check_time(self, wanted: Demand, left_s: float, line: Line) -> None:
        num_free = self._num_slots - line.num_running
        num_awaited = line.num_before + wanted.num_choices - num_free
        wait_s, next_s = self._turnover.wait_s(num_awaited), self._turnover.wait_s(1)
        if not (wait_s and next_s):  # nothing is known yet, or there is a slot for it
            return
        wait_s -= next_s / 2  # the next to come free is half through, on average
        late_s = wait_s + self._turnover.answer_s(wanted.max_tokens) - left_s / _CAUTION
        if late_s > 0:
            self._metrics.refused.labels("deadline").inc()
            raise _full(
                f"its answer would come after its deadline: {left_s:.1f} s are left, and "
                f"{num_awaited} slots must come free before it begins",
                # Nothing changes before a slot comes free; a free one is anybody's.
                min(max(late_s, next_s), wait_s),
                field="deadline",
            )


def _full(message: str, wait_s: float | None, field: str | None = None) -> QueueFullError:
    told_s = _UNKNOWN_S if wait_s is None else wait_s
    return QueueFullError(
        message,
        field=field,
        remedy="try again after the delay" + (", or give it more time" if field else ""),
        retry_after_s=min(max(told_s, _MIN_RETRY_S), _MAX_RETRY_S),
    )
