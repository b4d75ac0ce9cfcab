"""Batches of text whose chunks read references (paper §7, continual training)."""

from __future__ import annotations

import numpy as np

from memory3.errors import InvalidArgumentError
from memory3.model.config import ModelConfig
from memory3_trainer.data.neighbours import NONE, Neighbours
from memory3_trainer.data.packing import PackedText
from memory3_trainer.data.reference_store import ReferenceStore
from memory3_trainer.data.sources import Share, TextSource
from memory3_trainer.stages.batch import Example, MemoryBatch, collate


class ContinualSource(TextSource):
    """Windows of packed text; a chunk reads its own reference and those of the four before.

    Args:
        pack: The text.
        store: The references.
        neighbours: The reference of every chunk of the pack.
        config: Chunk length, references of a chunk and special tokens.
        batch_size: Windows of a batch over all processes.
        length: Tokens of a window, whole chunks.
        seed: Fixes the order.

    Raises:
        InvalidArgumentError: The windows are not whole chunks, or the neighbours were found for
            chunks or references of another length.
    """

    def __init__(
        self,
        pack: PackedText,
        store: ReferenceStore,
        neighbours: Neighbours,
        config: ModelConfig,
        *,
        batch_size: int,
        length: int,
        seed: int,
    ) -> None:
        super().__init__(pack, config, batch_size=batch_size, length=length, seed=seed)
        self._store, self._neighbours = store, neighbours
        self._chunk = config.memory.chunk_length
        self._num_read = config.memory.references_per_chunk
        found_for = neighbours.facts.settings.get("chunk_length")
        if length % self._chunk or found_for != self._chunk:
            raise InvalidArgumentError(
                f"windows of {length} tokens and neighbours of {found_for}-token chunks do not fit "
                f"chunks of {self._chunk}",
                field="length",
                remedy="take whole chunks, and find the neighbours for this chunk length",
            )
        if store.facts.reference_length > config.memory.reference_length:
            raise InvalidArgumentError(
                f"references of up to {store.facts.reference_length} tokens do not fit the model's "
                f"{config.memory.reference_length}",
                field="references",
                remedy="cut the references again: data references --reference-length",
            )

    def batch(self, number: int, share: Share) -> MemoryBatch:
        """See `Source.batch`."""
        examples = []
        for window in self.window_numbers(number, share):
            tokens = self._pack.window(window, self._length).tolist()
            examples.append(Example(tokens, [1.0] * self._length, self.chunks(window)))
        used = sorted({row for item in examples for chunk in item.chunks for row in chunk})
        place_of = {row: place for place, row in enumerate(used)}
        examples = [
            Example(
                item.tokens,
                item.weights,
                [[place_of[row] for row in chunk] for chunk in item.chunks],
            )
            for item in examples
        ]
        return collate(
            examples,
            [self._store.tokens(row).tolist() for row in used],
            separator_id=self._config.separator_id,
            pad_id=self._config.pad_id,
            chunk_length=self._chunk,
        )

    def chunks(self, window: int) -> list[list[int]]:
        """For each chunk of a window the references that it reads, its own first, each once."""
        count = self._length // self._chunk
        own: np.ndarray = self._neighbours.rows[window * count : (window + 1) * count]
        rows = own.tolist()
        read = []
        for chunk in range(count):
            latest = rows[max(0, chunk - self._num_read + 1) : chunk + 1]
            read.append([row for row in dict.fromkeys(reversed(latest)) if row != NONE])
        return read
