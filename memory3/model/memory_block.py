"""The memories of several slots side by side, in the shape in which a cache takes them in one copy.

It must not know which slots they are for, nor how a cache lays out its columns.
Shapes: L memory layers, B slots, K KV heads, N tokens kept, D head dim, P places of a slot, F of
which the fullest of these slots uses.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memory3.memory.tensors import MemoryTensors


def side_by_side(kind: str, memories: Sequence[Sequence[MemoryTensors]]) -> Tensor:
    """The keys or the values of B slots, each with a memory at least, [L, B, K, F * N, D].

    Args:
        kind: "keys" or "values".
        memories: Of each slot; a slot with fewer than the fullest ends with zeros.
    """
    fullest = max(map(len, memories))
    blank = torch.zeros_like(getattr(memories[0][0], kind))
    parts = []
    for own in memories:
        parts += [getattr(memory, kind) for memory in own]
        parts += (fullest - len(own)) * [blank]
    joined = torch.cat(parts, dim=2)  # [L, K, B * F * N, D]
    L, K, _, D = joined.shape
    return joined.view(L, K, len(memories), -1, D).transpose(1, 2)


def valid_columns(memories: Sequence[Sequence[MemoryTensors]], places: int, kept: int) -> Tensor:
    """Which memory columns of B slots hold a token, bool [B, P * N], on the host."""
    counts = [[memory.num_kept for memory in own] + (places - len(own)) * [0] for own in memories]
    counts_BP = torch.tensor(counts, dtype=torch.int64).view(len(memories), places)
    return (torch.arange(kept) < counts_BP[..., None]).flatten(1)
