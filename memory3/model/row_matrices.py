"""Second copies of packed matrices, for products with a single row.

A step of one sequence multiplies every matrix with one row, which is reading it once. On some
processors (AVX2) oneDNN's order, made for many rows, is read at little more than half of what the
memory gives, and a plain copy whose lines run along the longer side at all of it. On others it is
the other way round, so each shape is tried when a model is loaded. It must not know layers or
models.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from memory3.model.packing import PackedLinear

# A copy that is not faster by this much is not worth its bytes.
_LEAST_GAIN = 1.1
_NUM_ROUNDS = 5


class RowBudget:
    """Bytes for second copies.

    Args:
        max_bytes: Of all copies; 0 makes none.
    """

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes

    def copy(self, weight: Tensor) -> Tensor | None:
        """A copy of a matrix [outputs, inputs] for one row; None where its bytes are not left."""
        if weight.nbytes > self._left:
            return None
        self._left -= weight.nbytes
        outputs, inputs = weight.shape
        return weight.t().contiguous().t() if outputs >= inputs else weight.clone()


@torch.inference_mode()
def keep_faster(layers: Sequence[PackedLinear]) -> None:
    """Let go of the copies of those shapes that gain too little.

    All layers of a shape are tried one after the other, so that their matrices come from main
    memory, as they do in a step. Processor time is compared, which a busy machine delays least.
    """
    by_shape: dict[torch.Size, list[PackedLinear]] = defaultdict(list)
    for layer in layers:
        if layer.row_matrix is not None:
            by_shape[layer.row_matrix.shape].append(layer)
    for group in by_shape.values():
        if _gain(group) < _LEAST_GAIN:
            for layer in group:
                layer.row_matrix = None


def _gain(layers: Sequence[PackedLinear]) -> float:
    """How many times as fast products with one row are by the copies."""
    copies = [layer.row_matrix for layer in layers]
    first = copies[0]
    if first is None:
        raise AssertionError("there are no copies to try")
    x = torch.ones(1, first.shape[1], dtype=first.dtype)

    def seconds(given: Sequence[Tensor | None]) -> float:
        for layer, copy in zip(layers, given, strict=True):
            layer.row_matrix = copy
        started = time.thread_time()
        for layer in layers:
            layer(x)
        return time.thread_time() - started

    none = [None] * len(layers)
    rounds = [(seconds(none), seconds(copies)) for _ in range(_NUM_ROUNDS + 1)]
    packed, copied = zip(*rounds[1:], strict=True)  # the first warms up
    return float(statistics.median(packed) / max(statistics.median(copied), 1e-9))
