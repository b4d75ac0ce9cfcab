"""bfloat16 as it is: 2 bytes a value, the paper's uncompressed form (paper §5)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from memory3.codecs.base import Codec, Shape
from memory3.model.transfer import send_bytes


class RawCodec(Codec):
    """bfloat16 values one after the other."""

    name = "raw"
    dtype_name = "bfloat16"

    def encode(self, key_values: Tensor) -> bytes:
        """See `Codec.encode`."""
        rounded = key_values.detach().to(torch.bfloat16)
        self.check_values(rounded, torch.finfo(torch.bfloat16).max)
        bits = rounded.cpu().contiguous().view(torch.int16)
        return bits.numpy().astype("<i2", copy=False).tobytes()

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
        """See `Codec.decode_batch`: the payloads cross to the device together."""
        for payload in payloads:
            self.check_size(payload, shape)
        if not payloads:
            return torch.empty(0, *shape, dtype=dtype, device=device)
        whole = send_bytes(payloads, device)
        return whole.view(torch.bfloat16).view(-1, *shape).to(dtype)

    def payload_bytes(self, shape: Shape) -> int:
        """See `Codec.payload_bytes`."""
        return 2 * math.prod(shape)
