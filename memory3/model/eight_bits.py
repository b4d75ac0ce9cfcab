"""Matrices of eight-bit weights, for inference on a processor without units for bfloat16.

One sequence reads every weight for every token, so a quarter of the bytes of float32 is read
sooner; a prompt is arithmetic, and gains nothing. Each row of a matrix, which makes one output, has
a scale of its own; what is multiplied with it stays bfloat16 (docs/adr/0036).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# torch's kernel of eight bits is written for few rows: with more, the weights made wide again and
# multiplied in float32 take less time.
_MAX_ROWS = 16
# Outputs made wide at a time, so that a large vocabulary takes no memory of its own.
_BLOCK = 4096


class Int8Linear(nn.Module):
    """A linear layer with eight-bit weights; it has no parameters any more.

    Args:
        linears: Layers with the same input, in bfloat16; their outputs stand side by side.
    """

    def __init__(self, *linears: nn.Linear) -> None:
        super().__init__()
        weight = torch.cat([linear.weight.detach() for linear in linears]).float()
        self.out_features = len(weight)
        largest = weight.abs().amax(dim=1).clamp(min=1e-30)
        # The scale that is stored is the one that divides, so its rounding costs no accuracy; and
        # never below the exact one, so no weight is cut off.
        self._scales = (largest / 127 * (1 + 2**-8)).bfloat16()
        codes = (weight / self._scales.float()[:, None]).round().clamp(-127, 127)
        self._codes = codes.to(torch.int8)
        biases = [linear.bias for linear in linears if linear.bias is not None]
        self._bias = torch.cat([bias.detach() for bias in biases]) if biases else None

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs], bfloat16."""
        rows = x.reshape(-1, x.shape[-1])
        out: Tensor
        if len(rows) <= _MAX_ROWS:
            rows = rows.contiguous()
            out = torch.ops.aten._weight_int8pack_mm(rows, self._codes, self._scales)
        else:
            out = self._wide(rows)
        if self._bias is not None:
            out += self._bias
        return out.view(*x.shape[:-1], self.out_features)

    def _wide(self, rows: Tensor) -> Tensor:
        wide = rows.float()
        products = [
            torch.ops.mkldnn._linear_pointwise(wide, codes.float(), None, "none", [], "")
            for codes in torch.split(self._codes, _BLOCK)
        ]
        return (torch.cat(products, dim=-1) * self._scales.float()).to(rows.dtype)


def can_pack_int8(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there are kernels of eight-bit weights for a device and a number format.

    torch has one for float32 too, which takes three times as long as full weights do.
    """
    return (
        device.type == "cpu"
        and dtype == torch.bfloat16
        and hasattr(torch.ops.aten, "_weight_int8pack_mm")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )
