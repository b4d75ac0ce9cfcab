"""A packed model says what the plain one says, in every way that it is used."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from memory3.memory.writer import MemoryWriter
from memory3.model import row_matrices
from memory3.model.cache import SlotCache
from memory3.model.packing import PackedLinear, can_pack, pack
from memory3.model.transformer import Transformer
from memory3.testing.checkpoints import tiny_checkpoint, tiny_config, tiny_model

CPU = torch.device("cpu")
VARIANTS: list[dict[str, Any]] = [
    {},
    {"tie_embeddings": True},
    {"tie_embeddings": False, "attention_bias": "all", "mlp_bias": True},
    {"attention_bias": "qkv", "qk_norm": True},
]

pytestmark = pytest.mark.skipif(
    not can_pack(CPU, torch.float32), reason="this build of torch has no packed kernels"
)


def said(model: Transformer) -> list[torch.Tensor]:
    """Logits of a prompt with a memory and of some steps of a batch, and a memory."""
    config = model.config
    with torch.inference_mode():
        (memory,) = MemoryWriter(model, config).write([range(5, 60)])
        cache = SlotCache(model, num_slots=3)
        prompts = [torch.arange(20, 20 + length) for length in (1, 40, 64)]
        found = [memory.keys, memory.values]
        for slot, prompt in enumerate(prompts):
            found.append(model.prefill(cache, slot, prompt, [[memory]]).logits)
        slots = torch.arange(3)
        for step in range(3):
            found.append(model.decode(cache, slots, torch.tensor([7, 8, 9]) + step).logits)
            found.append(model.decode(cache, slots[1:2], torch.tensor([step])).logits)
    return found


@pytest.fixture
def always_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Second copies are kept, however fast they are here."""
    monkeypatch.setattr(row_matrices, "_LEAST_GAIN", 0.0)


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_second_copy_for_one_row_says_the_same(
    changes: dict[str, Any], always_kept: None
) -> None:
    """Steps of one sequence by the copies, all else by what is packed."""
    plain = tiny_model(replace(tiny_config(), **changes))
    copied = deepcopy(plain)
    pack(copied, row_bytes=2**30)
    layers = _packed_layers(copied)
    assert layers
    assert all(layer.row_matrix is not None for layer in layers)
    for expected, actual in zip(said(plain), said(copied), strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_second_copies_are_bounded_and_useless_ones_let_go(
    always_kept: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more bytes than allowed, none without any, and none that is not faster."""
    whole = sum(layer.in_features * layer.out_features * 4 for layer in _packed_with(2**30))
    bounded = [layer.row_matrix for layer in _packed_with(whole // 2)]
    num_bytes = sum(matrix.nbytes for matrix in bounded if matrix is not None)
    assert 0 < num_bytes <= whole // 2
    assert all(layer.row_matrix is None for layer in _packed_with(0))
    monkeypatch.setattr(row_matrices, "_LEAST_GAIN", float("inf"))
    assert all(layer.row_matrix is None for layer in _packed_with(2**30))


def _packed_with(row_bytes: int) -> list[PackedLinear]:
    model = tiny_model()
    pack(model, row_bytes=row_bytes)
    return _packed_layers(model)


def _packed_layers(model: Transformer) -> list[PackedLinear]:
    return [layer for layer in model.modules() if isinstance(layer, PackedLinear)]


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.1)])
def test_a_packed_model_says_the_same(
    changes: dict[str, Any], dtype: str, tolerance: float
) -> None:
    """With and without biases, tied and not, in both number formats."""
    number_format = getattr(torch, dtype)
    if not can_pack(CPU, number_format):
        pytest.skip(f"this processor has no packed kernels of {dtype}")
    plain = tiny_model(replace(tiny_config(), **changes)).to(number_format)
    packed = deepcopy(plain)
    pack(packed)
    assert all("norm" in name or "embedding" in name for name, _ in packed.named_parameters())
    for expected, actual in zip(said(plain), said(packed), strict=True):
        torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


def test_layers_with_the_same_input_become_one() -> None:
    """Side by side, with their biases."""
    first, second = torch.nn.Linear(5, 3), torch.nn.Linear(5, 4)
    x = torch.randn(2, 6, 5)
    with torch.inference_mode():
        expected = torch.cat([first(x), second(x)], dim=-1)
        torch.testing.assert_close(PackedLinear(first, second)(x), expected)


def test_a_checkpoint_is_loaded_packed(tmp_path: Path) -> None:
    """The writing half has no output matrix to pack."""
    checkpoint = tiny_checkpoint(tmp_path / "tiny")
    plain = checkpoint.load_model(dtype=torch.float32)
    packed = checkpoint.load_model(dtype=torch.float32, packed=True)
    for expected, actual in zip(said(plain), said(packed), strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    half = checkpoint.load_model(dtype=torch.float32, writing_half=True, packed=True)
    assert half.head is None
    assert isinstance(packed.head, PackedLinear)


def test_what_has_no_packed_kernels_stays_as_it_is() -> None:
    """Float64, for one; the model goes on as it was."""
    model = tiny_model(tiny_config()).double()
    pack(model)
    assert not any(isinstance(module, PackedLinear) for module in model.modules())
