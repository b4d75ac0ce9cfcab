"""The memories of several slots side by side, in the shape in which a cache takes them in one copy.

It must not know which slots they are for, nor how a cache lays out its columns.
Shapes: L memory layers, B slots, K KV heads, N tokens kept, D head dim, P places of a slot, F of
which the fullest of these slots uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from memory3.memory.tensors import MemoryTensors


@dataclass(frozen=True)
class MemoryBlock:
    """What B slots read.

    Attributes:
        keys: [L, B, K, F * N, D], zero where a slot has fewer memories than the fullest.
        values: As the keys.
    """

    keys: Tensor
    values: Tensor

    @classmethod
    def of(cls, memories: Sequence[Sequence[MemoryTensors]]) -> Self:
        """Join the memories of B slots, one of which has a memory at least."""
        fullest = max(len(own) for own in memories)
        first = next(own[0] for own in memories if own)
        blank = torch.zeros_like(first.keys)
        kinds = []
        for kind in ("keys", "values"):
            parts = [
                part
                for own in memories
                for part in (*(getattr(m, kind) for m in own), *(fullest - len(own)) * [blank])
            ]
            joined = torch.cat(parts, dim=2)  # [L, K, B * F * N, D]
            L, K, _, D = joined.shape
            kinds.append(joined.view(L, K, len(memories), -1, D).transpose(1, 2))
        return cls(*kinds)


def valid_columns(memories: Sequence[Sequence[MemoryTensors]], places: int, kept: int) -> Tensor:
    """Which memory columns of B slots hold a token, bool [B, P * N], on the host."""
    counts = [[memory.num_kept for memory in own] + (places - len(own)) * [0] for own in memories]
    counts_BP = torch.tensor(counts, dtype=torch.int64).view(len(memories), places)
    return (torch.arange(kept) < counts_BP[..., None]).flatten(1)
