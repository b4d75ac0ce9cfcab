"""One explicit memory as tensors, decoded and ready to attach (paper §2, "one memory")."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class MemoryTensors:
    """Sparse key-values of one reference. L memory layers, K KV heads, N tokens kept, D head dim.

    Attributes:
        keys: Rotated keys [L, K, N, D].
        values: Values [L, K, N, D].
        positions: Kept tokens, counted from the start of the reference, int16 [L, K, N], rising.
        num_kept: Valid tokens; below N only where the reference is shorter. The rest is zero.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor
    num_kept: int

    @property
    def num_bytes(self) -> int:
        """Bytes in working memory, for bounded caches."""
        return self.keys.nbytes + self.values.nbytes + self.positions.nbytes

    @cached_property
    def digest(self) -> bytes:
        """A hash of what a layer reads of it: two with the same are the same to the model."""
        digest = hashlib.blake2b(self.num_kept.to_bytes(8, "little"), digest_size=32)
        for tensor in (self.keys, self.values):
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().view(torch.uint8).cpu().numpy().tobytes())
        return digest.digest()
