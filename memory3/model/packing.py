"""Matrices in the order that a processor's kernels read them in; for inference alone.

torch hands a plain float32 matrix to a library that is slow on some processors, and has it laid
out anew at every product. oneDNN's own order is made once: products then take a half to a quarter
of the time, whatever the number of rows (docs/performance.md). Matrices with the same input become
one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from memory3.model.eight_bits import Int8Linear, can_pack_int8
from memory3.model.placement import Weights

if TYPE_CHECKING:
    from memory3.model.transformer import Transformer


class PackedLinear(nn.Module):
    """A linear layer whose matrix is packed; it has no parameters any more.

    Args:
        linears: Layers with the same input; their outputs stand side by side.
    """

    def __init__(self, *linears: nn.Linear) -> None:
        super().__init__()
        weight = torch.cat([linear.weight.detach() for linear in linears])
        self.out_features = len(weight)
        # Not bound to a number of rows: packed for one, other numbers would be packed again.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        biases = [linear.bias for linear in linears if linear.bias is not None]
        self._bias = torch.cat([bias.detach() for bias in biases]) if biases else None

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs]."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, "none", [], ""
        )
        return out


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there are packed kernels for a device and a number format."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def pack(model: Transformer, *, with_head: bool = True, weights: Weights = "full") -> None:
    """Pack a model's matrices in place, where that can be; it can only be used afterwards.

    The plain matrices are let go one by one, so that no more than one exists twice; the embedding
    stays, for its rows are looked up.

    Args:
        model: On the device and in the number format that it is used in.
        with_head: The output matrix too.
        weights: Full, or rounded to eight bits.
    """
    kind: type[PackedLinear | Int8Linear] = Int8Linear if weights == "int8" else PackedLinear
    possible = can_pack_int8 if weights == "int8" else can_pack
    if not possible(model.device, model.dtype):
        return
    for block in model.layers:
        attention, mlp = block.attention, block.mlp
        attention.joined = kind(attention.wq, attention.wk, attention.wv)
        del attention.wq, attention.wk, attention.wv
        attention.wo = kind(cast(nn.Linear, attention.wo))
        mlp.joined = kind(mlp.w1, mlp.w3)
        del mlp.w1, mlp.w3
        mlp.w2 = kind(cast(nn.Linear, mlp.w2))
    if with_head:
        model.head = kind(model.output_matrix())
