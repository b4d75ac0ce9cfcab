"""Who waits for a slot, in which order, and whose memories are looked for meanwhile.

Sequences wait in the order in which they came, but one that still waits for its memories lets those
behind it pass. Only the front of the queue looks for memories, so that a long queue does not fill
the device with memories that nobody reads yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from memory3_decoder.engine.request import Request
from memory3_decoder.engine.sequence import Sequence


class WaitingQueue:
    """Sequences without a slot.

    Args:
        num_retrieving: Requests at the front whose memories are looked for.
    """

    def __init__(self, num_retrieving: int) -> None:
        self._num_retrieving = num_retrieving
        self._sequences: deque[Sequence] = deque()

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)

    def add(self, sequence: Sequence) -> None:
        """Put a sequence at the end."""
        self._sequences.append(sequence)

    def pop_ready(self) -> Sequence | None:
        """Take out the first sequence whose memories are there."""
        for sequence in self._sequences:
            if sequence.request.memories is not None:
                self._sequences.remove(sequence)
                return sequence
        return None

    def to_retrieve(self) -> list[Request]:
        """Requests at the front whose search has not begun."""
        found: list[Request] = []
        front: set[int] = set()
        for request in (sequence.request for sequence in self._sequences):
            if not request.session.reads or id(request) in front:
                continue
            if len(front) == self._num_retrieving:
                break
            front.add(id(request))
            if request.retrieving is None:
                found.append(request)
        return found

    def drop_over(self) -> None:
        """Forget the sequences of requests that are over."""
        if any(sequence.request.is_over for sequence in self._sequences):
            self._sequences = deque(s for s in self._sequences if not s.request.is_over)
