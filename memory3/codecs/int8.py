"""8-bit integers with one scale for each vector of a head: about half the bytes of bfloat16."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from memory3.codecs.base import Codec, Shape

_SMALLEST_SCALE = 2.0**-24  # of float16; below it a scale would be zero


class Int8Codec(Codec):
    """All scales (float16, one a vector), then all values (int8, symmetric).

    The largest error of a value is half a step, max|vector| / 254; for vectors below 0.001, where
    float16 scales grow coarse, 4e-6.
    """

    name = "int8"
    dtype_name = "int8"

    def encode(self, key_values: Tensor) -> bytes:
        """See `Codec.encode`."""
        values = key_values.detach().float().cpu()
        self.check_values(values, 127 * torch.finfo(torch.float16).max)
        scales = values.abs().amax(dim=-1, keepdim=True) / 127
        # The scale that is stored is the one that divides, so its rounding costs no accuracy.
        scales = scales.clamp(min=_SMALLEST_SCALE).half()
        codes = (values / scales.float()).round().clamp(-127, 127).to(torch.int8)
        return scales.numpy().astype("<f2", copy=False).tobytes() + codes.numpy().tobytes()

    def decode(
        self, payload: bytes, shape: Shape, *, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """See `Codec.decode`."""
        self.check_size(payload, shape)
        whole = torch.frombuffer(bytearray(payload), dtype=torch.uint8)
        split = 2 * math.prod(shape[:-1])
        scales = whole[:split].view(torch.float16).view(*shape[:-1], 1).to(device)
        codes = whole[split:].view(torch.int8).view(shape).to(device)
        return (codes.float() * scales.float()).to(dtype)

    def payload_bytes(self, shape: Shape) -> int:
        """See `Codec.payload_bytes`."""
        return math.prod(shape) + 2 * math.prod(shape[:-1])
