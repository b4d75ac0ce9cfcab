"""Which characters of an answer lie in which chunk, counted while the answer comes.

Text comes in pieces of one or more tokens, so a border is exact to a piece. It must not know JSON.
"""

from __future__ import annotations

from memory3.sdk.answers import Finish, TextDelta


class Spans:
    """Follows the text of one choice."""

    def __init__(self) -> None:
        self._length = 0
        # After so many tokens the text is so long.
        self._borders: list[tuple[int, int]] = [(0, 0)]

    def feed(self, delta: TextDelta) -> None:
        """Take the next piece of text."""
        tokens, length = self._borders[-1]
        self._length = length + len(delta.text)
        self._borders.append((tokens + len(delta.token_ids), self._length))

    def of(self, finish: Finish) -> dict[int, tuple[int, int]]:
        """For each chunk the characters ``[start, end)`` of the text that lie in it.

        A chunk that holds nothing but prompt has none, and is left out. An answer that read no
        memories tells of no chunks.
        """
        prompt = finish.usage.prompt_tokens
        starts = [max(0, chunk.start_token - prompt) for chunk in finish.chunks]
        ends = [*(chunk.start_token - prompt for chunk in finish.chunks), None][1:]
        found: dict[int, tuple[int, int]] = {}
        for chunk, start, end in zip(finish.chunks, starts, ends, strict=True):
            if end is not None and end <= 0:
                continue
            last = self._length if end is None else self._at(end)
            found[chunk.chunk] = (self._at(start), last)
        return found

    def _at(self, tokens: int) -> int:
        return next((length for count, length in self._borders if count >= tokens), self._length)
