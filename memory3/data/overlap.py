"""The anti-cheat filter: does a reference say what the text says, word for word?

Source: paper §7: a training reference is dropped whose overlap with the text, LCS(t, r) / |r| with
a matched span in t of at most 2·|r|, exceeds 0.9; in evaluation 2/3. Longest common subsequences
are found bit-parallel, one big integer per reference (Hyyrö 2004, "Bit-parallel LCS-length
computation revisited").
It must not know where texts and references come from.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction

TRAINING_THRESHOLD = Fraction(9, 10)
EVALUATION_THRESHOLD = Fraction(2, 3)


class OverlapFilter:
    """Compares one reference with texts.

    Args:
        reference: Its tokens.
        threshold: The share of the reference above which it is dropped.
    """

    def __init__(self, reference: Sequence[int], threshold: Fraction) -> None:
        self._length = len(reference)
        # More than the threshold's share, in whole tokens.
        self._needed = int(threshold * self._length) + 1
        self._masks: dict[int, int] = {}
        for place, token in enumerate(reference):
            self._masks[token] = self._masks.get(token, 0) | 1 << place

    def exceeds(self, text: Sequence[int]) -> bool:
        """Whether some stretch of the text, at most 2·|r| long, holds too much of the reference."""
        if self._needed > self._length:
            return False
        found = self._masks.get
        # Only tokens that the reference has can match; the others still count in the span.
        places = [place for place, token in enumerate(text) if token in self._masks]
        masks = [found(text[place], 0) for place in places]
        if self._common(masks) < self._needed:
            return False
        width, stride = 2 * self._length, max(1, self._length // 2)
        start = 0
        while start < len(places):
            # A wider stretch that holds too little spares all those inside of it.
            after = bisect_left(places, places[start] + stride)
            if self._common_from(places, masks, start, width + stride) >= self._needed:
                for first in range(start, after):
                    if self._common_from(places, masks, first, width) >= self._needed:
                        return True
            start = after
        return False

    def _common_from(
        self, places: Sequence[int], masks: Sequence[int], first: int, width: int
    ) -> int:
        """The longest common subsequence with the `width` tokens from a place on."""
        end = bisect_left(places, places[first] + width)
        if end - first < self._needed:
            return 0
        return self._common(masks[first:end])

    def _common(self, masks: Sequence[int]) -> int:
        whole = (1 << self._length) - 1
        row = whole  # a zero where the row of the table rises
        for mask in masks:
            hit = row & mask
            row = ((row + hit) | (row - hit)) & whole
        return self._length - row.bit_count()
