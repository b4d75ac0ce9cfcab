"""Perplexity of a long text in a short window: session memory against truncation.

As in a session, the older half of a full window leaves in whole references, and what stays is read
anew. Then the next quarter of a window is predicted, chunk by chunk. A chunk of it reads the
memories that the chunk before it finds among what has left, so nothing of itself is told to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memory3.checkpoint import Checkpoint
from memory3.embedders.loading import load_embedder
from memory3.memory.tensors import MemoryTensors
from memory3.memory.writer import MemoryWriter
from memory3.model.cache import SlotCache

# A text is cut off after so many windows.
_MAX_WINDOWS = 40


def measure_perplexity(path: Path, text: str, *, window: int) -> list[dict[str, Any]]:
    """One row: perplexity with session memory and with truncation, and the number of tokens.

    Args:
        path: The checkpoint.
        text: At least three windows long.
        window: Tokens of the window, a multiple of the reference length.
    """
    with torch.inference_mode():
        return [_LongText(Checkpoint.open(path), window).measure(text)]


class _LongText:
    def __init__(self, checkpoint: Checkpoint, window: int) -> None:
        self._checkpoint, self._window = checkpoint, window
        self._model = checkpoint.load_model(dtype=torch.float32, packed=True)
        self._writer = MemoryWriter(self._model, checkpoint.config)
        self._embedder = load_embedder(None, checkpoint.embedder_dir)
        self._cache = SlotCache(self._model, num_slots=1, context_length=window)
        self._memory = checkpoint.config.memory

    def measure(self, text: str) -> dict[str, Any]:
        tokens = self._checkpoint.tokenizer.encode(text, add_special_tokens=False).ids
        tokens = tokens[: _MAX_WINDOWS * self._window]
        losses: dict[str, list[float]] = {"session": [], "truncation": []}
        written: list[MemoryTensors] = []
        vectors: list[np.ndarray] = []
        quarter, size = self._window // 4, self._memory.reference_length
        for stop in range(2 * self._window, len(tokens) - quarter, quarter):
            kept = tokens[stop - self._window // 2 : stop]
            for start in range(len(written) * size, stop - len(kept) - size + 1, size):
                part = tokens[start : start + size]
                written += self._writer.write([part])
                vectors += list(self._embedder.embed([self._text(part)], "reference"))
            predicted = tokens[stop : stop + quarter]
            found = self._found([*kept, *predicted], written, torch.from_numpy(np.stack(vectors)))
            losses["session"].append(self._loss(kept, predicted, found))
            losses["truncation"].append(self._loss(kept, predicted, ()))
        means = {name: math.exp(sum(each) / len(each)) for name, each in losses.items()}
        return {"figure": "perplexity", **means, "num_tokens": quarter * len(losses["session"])}

    def _found(
        self, tokens: Sequence[int], written: Sequence[MemoryTensors], vectors: torch.Tensor
    ) -> list[list[MemoryTensors]]:
        """What each chunk reads: what the one before it finds, the first of a window nothing."""
        size, num = self._memory.chunk_length, self._memory.references_per_chunk
        chunks = [tokens[start : start + size] for start in range(0, len(tokens), size)]
        queries = [self._text(chunk) for chunk in chunks[:-1]]
        scores = torch.as_tensor(self._embedder.embed(queries, "query")) @ vectors.T
        best = scores.topk(min(num, len(written))).indices.tolist()
        return [[], *([written[place] for place in places] for places in best)]

    def _loss(
        self,
        kept: Sequence[int],
        predicted: Sequence[int],
        found: Sequence[Sequence[MemoryTensors]],
    ) -> float:
        self._cache.release(0)
        read = torch.tensor([*kept, *predicted])
        output = self._model.prefill(self._cache, 0, read, found or None, all_logits=True)
        # The separator comes first: the logits after token i stand at i + 1.
        logits = output.logits[len(kept) : len(kept) + len(predicted)]
        wanted = torch.tensor(predicted)
        return float(torch.nn.functional.cross_entropy(logits, wanted))

    def _text(self, tokens: Sequence[int]) -> str:
        return self._checkpoint.tokenizer.decode(list(tokens)).strip("\ufffd").strip()
