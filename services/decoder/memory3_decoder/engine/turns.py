"""When a sequence that has generated for long leaves its slot to one that waits.

Without this, a few long answers hold all slots and everybody else waits for their end. With it, the
one that has generated most since it got its slot leaves, once that is a turn's worth; its keys and
values wait in main memory, and it goes to the end of the queue. It must not know the model or what
becomes of the slot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from memory3_decoder.engine.sequence import Sequence


@dataclass(frozen=True)
class Turns:
    """The rule.

    Attributes:
        num_tokens: Tokens generated in a slot before it may be taken away; 0 for never.
        max_bytes: Most bytes of all sequences that have left their slots.
    """

    num_tokens: int
    max_bytes: int

    def to_suspend(
        self, running: Iterable[Sequence], suspended_bytes: int, column_bytes: int
    ) -> Sequence | None:
        """The sequence to leave its slot now; None where each keeps its own.

        Args:
            running: Those who hold a slot.
            suspended_bytes: Bytes of those who have left theirs.
            column_bytes: Bytes of one token's keys and values.
        """
        if not self.num_tokens:
            return None
        room = (self.max_bytes - suspended_bytes) // column_bytes
        had_their_turn = (
            sequence
            for sequence in running
            if sequence.num_in_turn >= self.num_tokens and len(sequence.window_tokens) <= room
        )
        return max(had_their_turn, key=lambda sequence: sequence.num_in_turn, default=None)
