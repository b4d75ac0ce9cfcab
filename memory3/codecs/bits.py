"""Codes of a vector quantiser as bytes: the layout that faiss writes, packed and unpacked in torch.

A code is the number of the coarse centroid, little-endian in whole bytes, then one number for each
part of the residual, `fine_bits` bits each, lowest bits first without gaps (faiss `Index2Layer`).
Shapes: V vectors, M parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CodeLayout:
    """How many bits mean what in the code of one vector.

    Attributes:
        coarse_bits: Of the centroid of each half of the vector.
        num_parts: Parts of the residual, M.
        fine_bits: Of the centroid of each part.
    """

    coarse_bits: int
    num_parts: int
    fine_bits: int

    @property
    def coarse_bytes(self) -> int:
        """Bytes of both coarse numbers together."""
        return -(-2 * self.coarse_bits // 8)

    @property
    def num_bytes(self) -> int:
        """Bytes of a code."""
        return self.coarse_bytes - (-self.num_parts * self.fine_bits // 8)

    def pack(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Numbers to codes.

        Args:
            coarse: int64 [V, 2], below 2^coarse_bits.
            fine: int64 [V, M], below 2^fine_bits.

        Returns:
            uint8 [V, num_bytes].
        """
        codes = torch.zeros(len(coarse), self.num_bytes + 3, dtype=torch.int64)
        codes = codes.to(coarse.device)
        whole = coarse[:, 0] | coarse[:, 1] << self.coarse_bits
        for place in range(self.coarse_bytes):
            codes[:, place] = whole >> 8 * place & 0xFF
        for part in range(self.num_parts):
            first, shift = self._place(part)
            shifted = fine[:, part] << shift
            for place in range(3):  # 16 bits begin anywhere in a byte and touch at most three
                codes[:, first + place] |= shifted >> 8 * place & 0xFF
        return codes[:, : self.num_bytes].to(torch.uint8)

    def unpack(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Codes to numbers, the opposite of `pack`.

        Args:
            codes: uint8 [V, num_bytes].

        Returns:
            Coarse int64 [V, 2] and fine int64 [V, M]. Whatever the bytes, no number leaves its
            codebook.
        """
        wide = torch.nn.functional.pad(codes, (0, 3)).to(torch.int64)
        whole = sum((wide[:, i] << 8 * i for i in range(self.coarse_bytes)), wide[:, 0] * 0)
        mask = (1 << self.coarse_bits) - 1
        coarse = torch.stack((whole & mask, whole >> self.coarse_bits & mask), dim=-1)
        places = [self._place(part) for part in range(self.num_parts)]
        first = torch.tensor([place for place, _ in places], device=codes.device)
        shift = torch.tensor([shift for _, shift in places], device=codes.device)
        window = wide[:, first] | wide[:, first + 1] << 8 | wide[:, first + 2] << 16
        return coarse, window >> shift & (1 << self.fine_bits) - 1

    def _place(self, part: int) -> tuple[int, int]:
        """The byte in which the number of a part begins, and the bit in that byte."""
        byte, bit = divmod(part * self.fine_bits, 8)
        return self.coarse_bytes + byte, bit
