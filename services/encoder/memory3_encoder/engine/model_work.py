"""The model's part of the work: a batch of token ids to envelopes (paper §3). Knows torch."""

from __future__ import annotations

from collections.abc import Sequence

from memory3.memory.writer import MemoryWriter, to_envelope
from memory3_encoder.engine.work import EncodeItem


class ModelWork:
    """Writes memories and packs them.

    Args:
        writer: Makes memories.
        checkpoint_digest: What every envelope is bound to.
    """

    def __init__(self, writer: MemoryWriter, checkpoint_digest: str) -> None:
        self._writer = writer
        self._digest = checkpoint_digest

    def __call__(self, items: Sequence[EncodeItem]) -> list[bytes]:
        """One envelope for each item, in order."""
        memories = self._writer.write([item.tokens for item in items])
        return [
            to_envelope(memory, item.codec, self._digest)
            for memory, item in zip(memories, items, strict=True)
        ]
