"""The codebooks of a trained quantiser: `codec.safetensors` of a checkpoint, read and checked.

Source: paper §5. What is computed with them is in `opq`; here they are only tensors.
Shapes: L memory layers, 2 for key and value, K KV heads, D head dim, Q quantisers for each of key
and value (1, or one a layer), M parts, C and F centroids.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from memory3.codecs.bits import CodeLayout
from memory3.codecs.codebook_shapes import AGAIN, FILE, check_codebook_shapes
from memory3.errors import CheckpointFormatError


@dataclass(frozen=True)
class Codebooks:
    """What the quantiser learnt.

    Attributes:
        mean: Subtracted first, [L, 2, K, D].
        scale: Divides then, above zero, [L, 2, K].
        rotation: Orthonormal, turns a column vector, [Q, 2, D, D].
        coarse: Centroids of either half of a turned vector, [Q, 2, 2, C, D / 2].
        fine: Centroids of the parts of what is left, [Q, 2, M, F, D / M].
    """

    mean: Tensor
    scale: Tensor
    rotation: Tensor
    coarse: Tensor
    fine: Tensor

    def __post_init__(self) -> None:
        """Refuse what cannot be computed with.

        Raises:
            CheckpointShapeError: A tensor has another shape than the others say.
            CheckpointFormatError: A number is not finite, or a scale not above zero.
        """
        tensors = self._tensors()
        check_codebook_shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()})
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise _broken(name, "holds a number that is not finite")
        if not (self.scale > 0).all():
            raise _broken("scale", "holds a scale that is not above zero")

    @property
    def layout(self) -> CodeLayout:
        """How a code is packed."""
        C, F = self.coarse.shape[3], self.fine.shape[3]
        return CodeLayout(C.bit_length() - 1, self.fine.shape[2], F.bit_length() - 1)

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors as they are."""
        return sum(tensor.nbytes for tensor in self._tensors().values())

    def to(self, device: torch.device) -> Self:
        """In float32 on a device, ready to compute with."""
        tensors = self._tensors()
        return replace(self, **{n: t.to(device, torch.float32) for n, t in tensors.items()})

    def rounded(self) -> Self:
        """As they are stored: centroids in float16, of which a code needs no more."""
        return replace(self, coarse=self.coarse.half(), fine=self.fine.half())

    def to_bytes(self) -> bytes:
        """The content of `codec.safetensors`."""
        from safetensors.torch import save

        return save({name: tensor.contiguous() for name, tensor in self._tensors().items()})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read `codec.safetensors`.

        Raises:
            CheckpointFormatError: It is no safetensors file, or holds impossible numbers.
            CheckpointShapeError: A tensor is missing, surplus or of another shape.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointFormatError(
                "the codebooks are no safetensors file", field=FILE, remedy=AGAIN
            ) from error
        check_codebook_shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()})
        return cls(**tensors)

    def _tensors(self) -> dict[str, Tensor]:
        return {item.name: getattr(self, item.name) for item in fields(self)}


def _broken(name: str, problem: str) -> CheckpointFormatError:
    return CheckpointFormatError(f"{name} {problem}", field=f"{FILE}:{name}", remedy=AGAIN)
