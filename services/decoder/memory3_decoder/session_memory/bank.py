"""The memories that one choice has of its own text: searched exactly, the oldest forgotten first.

It holds what it is given and must not know how memories are written or texts embedded. Choices of
one request fork it: they share the prompt's memories and nothing that comes after.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch

from memory3.embedders.base import Vectors
from memory3.memory.tensors import MemoryTensors
from memory3.model.config import ModelConfig
from memory3_decoder.events import TokenSpan


@dataclass(frozen=True)
class SessionMemory:
    """A memory of a call's own text.

    Attributes:
        span: The tokens it was written from.
        text: Their text.
        vector: Unit vector of the text [dimensions], or zeros where the embedder knows none of it.
        tensors: The memory.
    """

    span: TokenSpan
    text: str
    vector: Vectors
    tensors: MemoryTensors

    @property
    def num_bytes(self) -> int:
        """Bytes of memory and vector."""
        return self.tensors.num_bytes + self.vector.nbytes


class SessionBank:
    """At most so many memories.

    Args:
        capacity: The most memories that are kept, at least 1.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._entries: deque[SessionMemory] = deque(maxlen=capacity)
        self._matrix: Vectors | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def num_bytes(self) -> int:
        """Bytes held; memories that choices share count in each."""
        # All memories of a checkpoint have one size, and so have its vectors.
        return len(self._entries) * self._entries[0].num_bytes if self._entries else 0

    def add(self, memory: SessionMemory) -> None:
        """Keep a memory; the oldest goes where there is no room."""
        self._entries.append(memory)
        self._matrix = None

    def search(self, vector: Vectors, k: int) -> list[tuple[SessionMemory, float]]:
        """The memories whose texts are nearest to a query, with their cosines, nearest first.

        Args:
            vector: The query [dimensions], of length 1; zeros find nothing.
            k: The most that are wanted.
        """
        if not self._entries or not np.any(vector):
            return []
        if self._matrix is None:
            self._matrix = np.stack([entry.vector for entry in self._entries])
        scores = self._matrix @ vector
        order = np.argsort(-scores, kind="stable")[:k]
        return [(self._entries[number], float(scores[number])) for number in order]

    def fork(self) -> SessionBank:
        """Another bank with the same memories."""
        other = SessionBank(self.capacity)
        other._entries.extend(self._entries)
        other._matrix = self._matrix
        return other


def capacity(config: ModelConfig, dtype: torch.dtype, max_bytes: int) -> int:
    """Memories of a checkpoint that fit into so many bytes, vectors left out of account."""
    values = math.prod(config.memory_shape)
    layers, _, heads, kept, _ = config.memory_shape
    return max_bytes // (values * dtype.itemsize + layers * heads * kept * torch.int16.itemsize)
