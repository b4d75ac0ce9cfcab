"""Who waits for a slot, in which order, and whose memories are looked for meanwhile.

Callers take turns, then the requests of a caller, so that neither many requests of one caller nor
many choices of one request push back the others. Who still waits for memories lets those behind
pass and keeps its turn. Only the front of the queue looks for memories, so that a long queue does
not fill the device with memories that nobody reads yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

from memory3_decoder.engine.request import Request
from memory3_decoder.engine.sequence import Sequence

# Requests that wait, with their sequences; the one whose turn is next comes first.
_Waiting = dict[Request, deque[Sequence]]


class WaitingQueue:
    """Sequences without a slot.

    Attributes:
        suspended_bytes: Bytes of keys and values of those who have left their slots.

    Args:
        num_retrieving: Requests at the front whose memories are looked for.
    """

    def __init__(self, num_retrieving: int) -> None:
        self._num_retrieving = num_retrieving
        # The caller whose turn is next comes first.
        self._callers: dict[str | Request, _Waiting] = {}
        # Kept, because both are asked for before every step.
        self._num_waiting = self.suspended_bytes = 0

    def __len__(self) -> int:
        return self._num_waiting

    def __iter__(self) -> Iterator[Sequence]:
        for requests in self._callers.values():
            for sequences in requests.values():
                yield from sequences

    def num_before(self, caller: str, num_choices: int) -> int:
        """The most sequences that begin before the last choice of a new request, if no more come.

        Args:
            caller: Who asks; empty for a caller of this request alone.
            num_choices: Choices of the request.
        """
        num_own = _num_sequences(self._callers.get(caller, {}))
        num_turns = num_own + num_choices
        return num_own + sum(
            min(_num_sequences(requests), num_turns)
            for other, requests in self._callers.items()
            if other != caller
        )

    def add(self, sequence: Sequence) -> None:
        """Put a sequence behind the others of its request, and that behind those of its caller."""
        request = sequence.request
        requests = self._callers.setdefault(request.caller or request, {})
        requests.setdefault(request, deque()).append(sequence)
        self._count(sequence, 1)

    def pop_ready(self) -> Sequence | None:
        """Take out the next sequence whose memories are there; caller and request go to the end."""
        for request in self._in_turn():
            if request.memories is None:
                continue
            for sequence in self._callers[request.caller or request][request]:
                if not sequence.awaits_memories:
                    return self._take(sequence)
        return None

    def to_retrieve(self) -> list[Request]:
        """Requests at the front whose search has not begun."""
        # A session's prompt that is too long is cut by its search, also where it reads nothing.
        reading = (
            request
            for request in self._in_turn()
            if request.session.reads or request.memories is None
        )
        front = islice(reading, self._num_retrieving)
        return [request for request in front if request.retrieving is None]

    def drop_over(self) -> list[Sequence]:
        """Take out the sequences of requests that are over."""
        dropped: list[Sequence] = []
        for caller, requests in list(self._callers.items()):
            for request in [request for request in requests if request.is_over]:
                dropped += requests.pop(request)
            if not requests:
                del self._callers[caller]
        for sequence in dropped:
            self._count(sequence, -1)
        return dropped

    def _in_turn(self) -> Iterator[Request]:
        rings = deque(iter(requests) for requests in self._callers.values())
        while rings:
            try:
                yield next(rings[0])
            except StopIteration:
                rings.popleft()
            else:
                rings.rotate(-1)

    def _take(self, sequence: Sequence) -> Sequence:
        request = sequence.request
        caller = request.caller or request
        requests = self._callers.pop(caller)
        sequences = requests.pop(request)
        sequences.remove(sequence)
        self._count(sequence, -1)
        if sequences:
            requests[request] = sequences
        if requests:
            self._callers[caller] = requests
        return sequence

    def _count(self, sequence: Sequence, change: int) -> None:
        self._num_waiting += change
        if sequence.suspended is not None:
            self.suspended_bytes += change * sequence.suspended.nbytes


def _num_sequences(requests: _Waiting) -> int:
    return sum(map(len, requests.values()))
