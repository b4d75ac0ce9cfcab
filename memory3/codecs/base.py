"""What a codec is: key-values of one memory to bytes of a size known beforehand, and back.

Source: paper §5. Shape of key-values: (memory layers, 2, KV heads, tokens kept, head dim).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from memory3.errors import CorruptDataError, InvalidArgumentError

Shape = tuple[int, int, int, int, int]


class Codec(ABC):
    """Encodes memories. `name` is stored in every envelope, at most 16 ASCII characters.

    Attributes:
        dtype_name: The number format of the payload, for people and for checks.
    """

    name: ClassVar[str]
    dtype_name: ClassVar[str]

    @classmethod
    def from_checkpoint(cls, codec_file: Path | None) -> Self:
        """The codec for the memories of a checkpoint; one that needs nothing of it ignores it.

        Args:
            codec_file: The checkpoint's `codec.safetensors`; None where it has none.

        Raises:
            CheckpointError: What the codec needs is not there, or cannot be used.
        """
        return cls()

    @abstractmethod
    def encode(self, key_values: Tensor) -> bytes:
        """Bytes of exactly `payload_bytes(shape)`; little-endian on every machine.

        Raises:
            InvalidArgumentError: The key-values have another number of dimensions, or hold a
                number that the codec cannot store: not a number, infinite, or too large for it.
        """

    @abstractmethod
    def decode(
        self, payload: bytes, shape: Shape, *, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """The key-values again, of the asked dtype and on the asked device.

        Raises:
            CorruptDataError: The payload has another size than the shape needs.
        """

    def decode_batch(
        self,
        payloads: Sequence[bytes],
        shape: Shape,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Tensor:
        """Several memories of one shape at once, [len(payloads), *shape]; else as `decode`.

        A codec that computes overrides it: a decoder reads many memories at a time.
        """
        if not payloads:
            return torch.empty(0, *shape, dtype=dtype, device=device)
        decoded = [self.decode(part, shape, dtype=dtype, device=device) for part in payloads]
        return torch.stack(decoded)

    @abstractmethod
    def payload_bytes(self, shape: Shape) -> int:
        """Size of the payload of a shape."""

    def check_values(self, key_values: Tensor, largest: float) -> None:
        """Refuse what cannot be stored.

        One number that is not finite, multiplied by an attention weight of zero, would spoil
        every answer that has the memory in its columns.
        """
        if key_values.dim() != 5 or key_values.shape[1] != 2 or key_values.numel() == 0:
            raise InvalidArgumentError(
                f"{tuple(key_values.shape)} is not (layers, 2, KV heads, tokens, head dim)",
                field="key_values",
                remedy="stack keys and values as the writer does",
            )
        magnitude = float(key_values.abs().max())  # not a number if any is
        if not magnitude <= largest:
            raise InvalidArgumentError(
                f"the largest of the key-values is {magnitude}, a {self.name} payload holds"
                f" {largest:.3g}",
                field="key_values",
                remedy="check the weights of the checkpoint that wrote them, and its dtype",
            )

    def check_size(self, payload: bytes, shape: Shape) -> None:
        """Refuse a payload whose size does not fit its shape, before anything is allocated."""
        expected = self.payload_bytes(shape)
        if len(payload) != expected:
            raise CorruptDataError(
                f"a {self.name} payload of shape {shape} has {expected} bytes, not {len(payload)}",
                field="envelope.payload",
                remedy="write the memory again",
            )
