"""A prompt as the pieces it is read in.

Between two steps of the running sequences only so many tokens are read. A piece ends on a border of
chunks or at the end of the prompt, because every chunk reads its own memories in one pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from memory3.memory.tensors import MemoryTensors
from memory3_decoder.model.jobs import Piece


class Pieces:
    """What is left to read of one prompt.

    Args:
        tokens: The whole prompt.
        chunk_memories: What each of its chunks reads; one list for an empty prompt.
        chunk_length: Tokens of a chunk.
    """

    def __init__(
        self,
        tokens: Sequence[int],
        chunk_memories: Sequence[Sequence[MemoryTensors]],
        chunk_length: int,
    ) -> None:
        self._tokens = tokens
        self._chunk_memories = chunk_memories
        self._chunk_length = chunk_length
        self._start = 0

    @property
    def num_left(self) -> int:
        """Tokens that no piece has taken."""
        return len(self._tokens) - self._start

    @property
    def start(self) -> int:
        """Tokens that pieces have taken, or that were passed over."""
        return self._start

    def skip(self, num_tokens: int) -> None:
        """Pass over tokens that need not be read.

        Args:
            num_tokens: How many: whole chunks, and fewer than are left.
        """
        if num_tokens % self._chunk_length or num_tokens >= max(1, self.num_left):
            raise AssertionError(f"{num_tokens} of {self.num_left} tokens cannot be passed over")
        self._start += num_tokens

    def take(self, budget: int) -> Piece | None:
        """The next piece; None where neither the rest of the prompt nor a whole chunk fits.

        Args:
            budget: The most tokens it may have.
        """
        if budget < 1:
            return None
        size, start = self._chunk_length, self._start
        is_last = self.num_left <= budget
        stop = len(self._tokens) if is_last else start + budget // size * size
        if stop == start and not is_last:
            return None
        self._start = stop
        chunks = slice(start // size, max(1, -(-stop // size)))
        return Piece(start, self._tokens[start:stop], self._chunk_memories[chunks], is_last)
