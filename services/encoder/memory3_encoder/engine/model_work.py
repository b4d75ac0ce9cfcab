"""The model's part of the work: a batch of token ids to envelopes (paper §3). Knows torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from memory3.embedders.base import Vectors
from memory3.embedders.checkpoint import CheckpointEmbedder
from memory3.memory.writer import MemoryWriter, to_envelope
from memory3_encoder.engine.work import EncodeItem, Written

if TYPE_CHECKING:
    from memory3.embedders.base import Embedder


class ModelWork:
    """Writes memories and packs them; and embeds what the same pass has read, where it can.

    Args:
        writer: Makes memories.
        checkpoint_digest: What every envelope is bound to.
        own_embedder: The checkpoint's, if the model's states are those that it pools.
    """

    def __init__(
        self,
        writer: MemoryWriter,
        checkpoint_digest: str,
        own_embedder: CheckpointEmbedder | None = None,
    ) -> None:
        self._writer = writer
        self._digest = checkpoint_digest
        self._embedder = own_embedder

    def embeds(self, text: str, num_tokens: int) -> bool:
        """Whether writing a reference of this text gives its vector as well."""
        return self._embedder is not None and self._embedder.reads_as_written(text, num_tokens)

    def __call__(self, items: Sequence[EncodeItem]) -> list[Written]:
        """What becomes of each item, in order."""
        vectors: dict[int, Vectors] = {}
        texts = {row: item.embed_text for row, item in enumerate(items)}
        wanted = {row: text for row, text in texts.items() if text is not None}

        def embed(hidden: Tensor, lengths: Tensor) -> None:
            if self._embedder is None or not wanted:
                return
            rows = torch.tensor(list(wanted), device=hidden.device)
            made = self._embedder.from_states(list(wanted.values()), hidden[rows], lengths[rows])
            vectors.update(zip(wanted, made, strict=True))

        memories = self._writer.write([item.tokens for item in items], embed)
        return [
            Written(to_envelope(memory, item.codec, self._digest), vectors.get(row))
            for row, (memory, item) in enumerate(zip(memories, items, strict=True))
        ]


def own_embedder(embedder: Embedder, dtype: torch.dtype) -> CheckpointEmbedder | None:
    """The embedder, if it pools the very states that the model computes while it writes.

    In another number format than its own float32 a vector would not be the one that ``Embed`` gives
    for the same text.
    """
    if isinstance(embedder, CheckpointEmbedder) and dtype == torch.float32:
        return embedder
    return None
