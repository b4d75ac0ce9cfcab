"""The record of which memories each chunk of a sequence reads, and how much attention they get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from memory3_decoder.events import AttachedReference, ChunkMemories
from memory3_decoder.session import Memories


@dataclass
class _Chunk:
    number: int
    start_token: int
    memories: Memories
    mass: list[float] = field(default_factory=list)
    num_measured: int = 0


class ChunkRecord:
    """Chunks of one choice in the order of their tokens.

    Args:
        choice: Number of the choice.
    """

    def __init__(self, choice: int) -> None:
        self._choice = choice
        self._chunks: list[_Chunk] = []

    @property
    def num_memories(self) -> int:
        """Memories attached, over all chunks."""
        return sum(len(chunk.memories) for chunk in self._chunks)

    def open(self, start_token: int, memories: Memories) -> ChunkMemories:
        """Begin the next chunk.

        Args:
            start_token: Offset of its first token from the start of the prompt.
            memories: What it reads.

        Returns:
            The event that tells of it.
        """
        chunk = _Chunk(len(self._chunks), start_token, memories)
        self._chunks.append(chunk)
        return self._event(chunk)

    def measure(self, mass: Sequence[float]) -> None:
        """Add to the newest chunk the attention mass of one token, or of all its tokens.

        Args:
            mass: Share of attention on each memory place.
        """
        record = self._chunks[-1]
        record.mass = [
            old + new for old, new in zip(record.mass or [0.0] * len(mass), mass, strict=True)
        ]
        record.num_measured += 1

    def report(self) -> tuple[ChunkMemories, ...]:
        """All chunks, with the mean attention mass where it was measured."""
        return tuple(self._event(chunk) for chunk in self._chunks)

    def _event(self, chunk: _Chunk) -> ChunkMemories:
        references = []
        for place, memory in enumerate(chunk.memories):
            mass = chunk.mass[place] / chunk.num_measured if chunk.num_measured else 0.0
            references.append(
                AttachedReference(memory.reference_id, memory.score, mass, memory.reference)
            )
        return ChunkMemories(self._choice, chunk.number, chunk.start_token, tuple(references))
