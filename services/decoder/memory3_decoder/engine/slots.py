"""The slots of the cache: which sequence holds which, and how fast they come free."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator

from memory3_decoder.engine.admission import Turnover
from memory3_decoder.engine.sequence import Sequence


class Slots(Collection[Sequence]):
    """The sequences that hold a slot, in the order of their slots; the lowest free one is next.

    Attributes:
        turnover: How fast slots come free.

    Args:
        num_slots: Sequences decoded at the same time.
    """

    def __init__(self, num_slots: int) -> None:
        self.turnover = Turnover(num_slots)
        self._held: dict[int, Sequence] = {}
        self._free = list(range(num_slots))

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Sequence]:
        return iter([sequence for _, sequence in sorted(self._held.items())])

    def __contains__(self, sequence: object) -> bool:
        return (
            isinstance(sequence, Sequence)
            and sequence.slot is not None
            and self._held.get(sequence.slot) is sequence
        )

    @property
    def are_taken(self) -> bool:
        """Whether none is free."""
        return not self._free

    def take(self, sequence: Sequence) -> int:
        """Give a sequence the lowest free slot."""
        slot = heapq.heappop(self._free)
        self._held[slot] = sequence
        self.turnover.begin(slot)
        return slot

    def give_back(self, slot: int) -> None:
        """Take a slot from the sequence that holds it."""
        sequence = self._held.pop(slot)
        # A sequence that left its slot in between held this one for a part of its answer only.
        is_whole = sequence.is_finished and not sequence.was_suspended
        self.turnover.end(slot, sequence.request.wanted.max_tokens if is_whole else None)
        heapq.heappush(self._free, slot)
