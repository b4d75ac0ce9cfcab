"""How much of a text leaves the window: arithmetic of token counts alone.

The rule is one for prompts and for generated text, so that going on in a window that was moved is
the same as a fresh request with what stayed as its prompt.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """The window of a decoder and what leaves it.

    Attributes:
        num_tokens: Most tokens of prompt and output in the window, those not read yet included.
        reference_length: Tokens of a memory's text; what leaves is a multiple of it.
    """

    num_tokens: int
    reference_length: int

    @property
    def can_move(self) -> bool:
        """Whether something stays when a reference leaves."""
        return self.num_tokens >= 2 * self.reference_length

    def is_full(self, num_tokens: int) -> bool:
        """Whether so many tokens leave no room for another."""
        return num_tokens >= self.num_tokens

    def num_leaving(self, num_tokens: int) -> int:
        """Tokens that leave from the front of so many; 0 while there is room for another.

        A full window keeps half, rounded up to what whole references leave of it; a longer text
        keeps as much or up to a reference less.
        """
        if not self.is_full(num_tokens):
            return 0
        size = self.reference_length
        kept = self.num_tokens - max(1, self.num_tokens // 2 // size) * size
        return -(-(num_tokens - kept) // size) * size
