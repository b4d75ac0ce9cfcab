"""Weights of eight bits: what they round to, and nothing else, for any number of rows."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from memory3.memory.writer import MemoryWriter
from memory3.model.cache import SlotCache
from memory3.model.eight_bits import Int8Linear, can_pack_int8
from memory3.model.packing import pack
from memory3.testing.checkpoints import tiny_checkpoint, tiny_config, tiny_model
from tests.unit.model.test_packing import VARIANTS

pytestmark = pytest.mark.skipif(
    not can_pack_int8(torch.device("cpu"), torch.bfloat16),
    reason="this build of torch has no kernels of eight-bit weights",
)
CLOSE = {"atol": 0.02, "rtol": 0.02}


def _rounded(linear: nn.Linear) -> torch.Tensor:
    """The weights that the eight bits stand for, in float32."""
    layer = Int8Linear(linear)
    return layer._codes.float() * layer._scales.float()[:, None]


@torch.inference_mode()
def test_each_weight_is_within_half_a_step_of_its_row() -> None:
    """Rows of very different sizes, one of zeros and one with a single weight that counts."""
    linear = nn.Linear(40, 30, bias=False).bfloat16()
    linear.weight.copy_(linear.weight * torch.logspace(-6, 6, 30)[:, None])
    linear.weight[3] = 0
    linear.weight[4] = 0
    linear.weight[4, 7] = -5
    exact, rounded = linear.weight.float(), _rounded(linear)
    step = exact.abs().amax(dim=1, keepdim=True) / 127
    assert ((exact - rounded).abs() <= 0.51 * step + 1e-30).all()
    assert int(Int8Linear(linear)._codes.abs().max()) <= 127


@pytest.mark.parametrize("num_rows", [1, 2, 16, 17, 100])
@pytest.mark.parametrize("bias", [False, True])
@torch.inference_mode()
def test_few_rows_and_many_multiply_with_the_same_weights(num_rows: int, bias: bool) -> None:
    """Both ways give what the rounded weights give, biases added, outputs side by side."""
    first, second = (nn.Linear(48, size, bias=bias).bfloat16() for size in (5000, 33))
    x = torch.randn(num_rows, 1, 48).bfloat16()
    expected = torch.cat(
        [
            nn.functional.linear(x.float(), _rounded(each), each.bias.float() if bias else None)
            for each in (first, second)
        ],
        dim=-1,
    )
    actual = Int8Linear(first, second)(x)
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual.float(), expected, **CLOSE)


@pytest.mark.parametrize("changes", VARIANTS)
@torch.inference_mode()
def test_a_model_says_what_its_rounded_weights_say(changes: dict[str, Any]) -> None:
    """With and without biases, tied and not: a prompt with a memory, and steps of a batch."""
    plain = tiny_model(replace(tiny_config(), **changes))
    packed = deepcopy(plain).bfloat16()
    (memory,) = MemoryWriter(plain, plain.config).write([range(5, 60)])
    # The output matrix of tied embeddings is rounded, the embedding that is looked up is not.
    plain.head = plain.output_matrix()
    for module in plain.modules():
        if isinstance(module, nn.Linear):
            weight = _rounded(module.bfloat16())
            module.float().weight = nn.Parameter(weight, requires_grad=False)
    pack(packed, weights="int8")
    assert all("norm" in name or "embedding" in name for name, _ in packed.named_parameters())
    found = []
    for model in (plain, packed):
        cache = SlotCache(model, num_slots=2)
        logits = [
            model.prefill(cache, slot, torch.arange(20, 20 + length), [[memory]]).logits
            for slot, length in enumerate((3, 40))
        ]
        logits.append(model.decode(cache, torch.arange(2), torch.tensor([7, 8])).logits)
        found.append(torch.cat(logits))
    error = (found[1] - found[0]).norm() / found[0].norm()
    assert error < 0.03


def test_a_checkpoint_is_loaded_with_eight_bits(tmp_path: Path) -> None:
    """In every matrix; in a number format without kernels the weights stay as they are."""
    checkpoint = tiny_checkpoint(tmp_path / "tiny")
    short = checkpoint.load_model(dtype=torch.bfloat16, packed=True, weights="int8")
    assert sum(isinstance(module, Int8Linear) for module in short.modules()) == 4 * 4 + 1
    exact = checkpoint.load_model(dtype=torch.float32, packed=True, weights="int8")
    assert not any(isinstance(module, Int8Linear) for module in exact.modules())
