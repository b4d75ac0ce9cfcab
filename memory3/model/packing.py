"""Matrices in the order that a processor's kernels read them in; for inference alone.

torch hands a plain float32 matrix to a library that is slow on some processors, and has it laid
out anew at every product. oneDNN's own order is made once: products then take a half to a quarter
of the time, whatever the number of rows (docs/performance.md). Matrices with the same input become
one. For products with a single row a second copy in another order may be faster still; see
`memory3.model.row_matrices`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from memory3.model.eight_bits import Int8Linear, can_pack_int8
from memory3.model.placement import Weights
from memory3.model.row_matrices import RowBudget, keep_faster

if TYPE_CHECKING:
    from memory3.model.transformer import Transformer


class PackedLinear(nn.Module):
    """A linear layer whose matrix is packed; it has no parameters any more.

    Attributes:
        row_matrix: The matrix [outputs, inputs] once more, for a product with one row; None where
            one row is as many are.

    Args:
        linears: Layers with the same input; their outputs stand side by side.
        budget: Bytes that are left for second copies; what this one takes is taken off.
    """

    def __init__(self, *linears: nn.Linear, budget: RowBudget | None = None) -> None:
        super().__init__()
        weight = torch.cat([linear.weight.detach() for linear in linears])
        self.out_features, self.in_features = weight.shape
        self.row_matrix = None if budget is None else budget.copy(weight)
        # Not bound to a number of rows: packed for one, other numbers would be packed again.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        biases = [linear.bias for linear in linears if linear.bias is not None]
        self._bias = torch.cat([bias.detach() for bias in biases]) if biases else None

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs]."""
        if self.row_matrix is not None and x.numel() == self.in_features:
            return self._one_row(x.reshape(-1)).view(*x.shape[:-1], -1)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, "none", [], ""
        )
        return out

    def _one_row(self, x: Tensor) -> Tensor:
        if self.row_matrix is None:
            raise AssertionError("there is no second copy")
        if self._bias is None:
            return torch.mv(self.row_matrix, x)
        return torch.addmv(self._bias, self.row_matrix, x)


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there are packed kernels for a device and a number format."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def pack(
    model: Transformer, *, with_head: bool = True, weights: Weights = "full", row_bytes: int = 0
) -> None:
    """Pack a model's matrices in place, where that can be; it can only be used afterwards.

    The plain matrices are let go one by one, so that no more than one exists twice; the embedding
    stays, for its rows are looked up.

    Args:
        model: On the device and in the number format that it is used in.
        with_head: The output matrix too.
        weights: Full, or rounded to eight bits.
        row_bytes: Most bytes of second copies of full matrices for products with one row, kept
            where they are measured to be faster; see `keep_faster`.
    """
    possible = can_pack_int8 if weights == "int8" else can_pack
    if not possible(model.device, model.dtype):
        return
    budget = RowBudget(row_bytes)
    made: list[PackedLinear] = []

    def packed(*linears: nn.Linear) -> PackedLinear | Int8Linear:
        if weights == "int8":
            return Int8Linear(*linears)
        made.append(PackedLinear(*linears, budget=budget))
        return made[-1]

    for block in model.layers:
        attention, mlp = block.attention, block.mlp
        attention.joined = packed(attention.wq, attention.wk, attention.wv)
        del attention.wq, attention.wk, attention.wv
        attention.wo = packed(cast(nn.Linear, attention.wo))
        mlp.joined = packed(mlp.w1, mlp.w3)
        del mlp.w1, mlp.w3
        mlp.w2 = packed(cast(nn.Linear, mlp.w2))
    if with_head:
        model.head = packed(model.output_matrix())
    keep_faster(made)
