"""8-bit integers with one scale for each vector of a head: about half the bytes of bfloat16."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from memory3.codecs.base import Codec, Shape
from memory3.model.transfer import send_bytes

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
        return self.decode_batch([payload], shape, dtype=dtype, device=device)[0]

    def decode_batch(
        self,
        payloads: Sequence[bytes],
        shape: Shape,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Tensor:
        """See `Codec.decode_batch`: the payloads cross to the device, and are decoded there."""
        for payload in payloads:
            self.check_size(payload, shape)
        if not payloads:
            return torch.empty(0, *shape, dtype=dtype, device=device)
        whole = send_bytes(payloads, device)
        split = 2 * math.prod(shape[:-1])
        # A row of them may begin at an odd byte, where no float16 can lie.
        scales = whole[:, :split].contiguous().view(torch.float16)
        codes = whole[:, split:].view(torch.int8).view(-1, *shape)
        scaled = codes.float().mul_(scales.view(-1, *shape[:-1], 1).float())
        return scaled.to(dtype)

    def payload_bytes(self, shape: Shape) -> int:
        """See `Codec.payload_bytes`."""
        return math.prod(shape) + 2 * math.prod(shape[:-1])
