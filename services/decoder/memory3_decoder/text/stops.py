"""Finding stop strings in a stream of text pieces, across the borders of pieces and tokens.

Text that could be the beginning of a stop string is held back until it is clear that it is not.
It must not know tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class StopMatch:
    """What has become of a piece of text.

    Attributes:
        text: What may be shown now.
        stop: The stop string that ended the text; empty while none did.
    """

    text: str
    stop: str = ""


class StopMatcher:
    """Holds back and cuts off the stop strings of one sequence.

    Where several stop strings end in one piece, the one that was complete first counts, and of
    those the longest: the answer does not depend on how the text was cut into tokens.

    Args:
        stops: The strings, none empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, piece: str, *, counts: bool = True) -> StopMatch:
        """Add text.

        Args:
            piece: The next text.
            counts: Whether a stop string that is completed by this piece ends the text; if not
                it is ordinary text.
        """
        text = self._held + piece
        if counts:
            found = self._first_match(text, len(self._held))
            if found is not None:
                start, stop = found
                self._held = ""
                return StopMatch(text[:start], stop)
        show = len(text) - self._possible_beginning(text)
        self._held = text[show:]
        return StopMatch(text[:show])

    def flush(self) -> str:
        """The text held back, when no more will come."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str, seen: int) -> tuple[int, str] | None:
        """Start and string of the match that is complete first, past the text seen before."""
        best: tuple[int, int, str] | None = None
        for stop in self._stops:
            start = text.find(stop, max(0, seen - len(stop) + 1))
            if start < 0:
                continue
            candidate = (start + len(stop), start, stop)
            best = candidate if best is None else min(best, candidate)
        return None if best is None else (best[1], best[2])

    def _possible_beginning(self, text: str) -> int:
        """Length of the longest end of the text that begins, without completing, a stop string."""
        for length in range(min(len(text), self._longest - 1), 0, -1):
            end = text[-length:]
            if any(len(stop) > length and stop.startswith(end) for stop in self._stops):
                return length
        return 0

    @property
    def _longest(self) -> int:
        return max(map(len, self._stops), default=0)
