"""The record of which memories each chunk of a sequence reads, and how much attention they get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from memory3_decoder.events import AttachedReference, ChunkMemories
from memory3_decoder.session import Memories


@dataclass
class _Chunk:
    number: int
    start_token: int
    references: tuple[AttachedReference, ...]
    mass: list[float] = field(default_factory=list)
    num_measured: int = 0


class ChunkRecord:
    """Chunks of one choice in the order of their tokens.

    Args:
        choice: Number of the choice.
        keeps_text: Whether the report repeats the texts of references; a session may have very
            many chunks.
    """

    def __init__(self, choice: int, *, keeps_text: bool = True) -> None:
        self._choice = choice
        self._keeps_text = keeps_text
        self._chunks: list[_Chunk] = []

    @property
    def num_memories(self) -> int:
        """Memories attached, over all chunks."""
        return sum(len(chunk.references) for chunk in self._chunks)

    def open(self, start_token: int, memories: Memories) -> ChunkMemories:
        """Begin the next chunk.

        Args:
            start_token: Offset of its first token from the start of the prompt.
            memories: What it reads.

        Returns:
            The event that tells of it.
        """
        # Not the memories themselves: what no chunk reads any more must not be kept alive.
        references = tuple(
            AttachedReference(
                memory.reference_id, memory.score, reference=memory.reference, span=memory.span
            )
            for memory in memories
        )
        number = len(self._chunks)
        kept = references
        if not self._keeps_text:
            kept = tuple(replace(reference, reference=None) for reference in references)
        self._chunks.append(_Chunk(number, start_token, kept))
        return ChunkMemories(self._choice, number, start_token, references)

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
        for place, reference in enumerate(chunk.references):
            mass = chunk.mass[place] / chunk.num_measured if chunk.num_measured else 0.0
            references.append(replace(reference, attention_mass=mass))
        return ChunkMemories(self._choice, chunk.number, chunk.start_token, tuple(references))
