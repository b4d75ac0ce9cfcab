"""A converted checkpoint computes what `transformers` computes, and can write and read memories."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from memory3.checkpoint import Checkpoint
from memory3.conversion.convert import convert
from memory3.conversion.options import ConversionOptions
from memory3.memory.writer import MemoryWriter
from memory3.model.cache import SlotCache
from memory3.model.transformer import Transformer
from tests.huggingface import save_model

LENGTH = 96
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip
YARN = {
    "rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 500.0, "factor": 3.0}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-tied-sharded": ("llama", {"tie_word_embeddings": True, "max_shard_size": "20KB"}),
    "llama-without-groups": ("llama", {"num_key_value_heads": None}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-llama3": ("llama", {"rope_parameters": LLAMA3}),
    "llama-linear": ("llama", {"rope_parameters": LINEAR}),
    "mistral": ("mistral", {"head_dim": 12, "sliding_window": None}),
    "mistral-window": ("mistral", {"sliding_window": 400, "max_shard_size": "20KB"}),
    "mistral-yarn": ("mistral", {"rope_parameters": YARN, "sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen2-tied": ("qwen2", {"tie_word_embeddings": True, "rope_parameters": YARN}),
    "qwen2-sharded": ("qwen2", {"max_shard_size": "20KB"}),
    "qwen3": ("qwen3", {"head_dim": 24, "max_shard_size": "20KB"}),
    "qwen3-tied": ("qwen3", {"head_dim": 24, "tie_word_embeddings": True}),
    "qwen3-biases": ("qwen3", {"head_dim": 16, "attention_bias": True}),
    "qwen3-mscale": (
        "qwen3",
        {
            "head_dim": 16,
            "rope_parameters": {
                **YARN, "mscale": 1.5, "mscale_all_dim": 0.5, "beta_fast": 8.0, "truncate": False,
            },
        },
    ),
}  # fmt: skip


def _tokens(number: int, seed: int) -> torch.Tensor:
    return torch.randint(5, 500, (number,), generator=torch.Generator().manual_seed(seed))


def _causal(model: Transformer, tokens: torch.Tensor) -> torch.Tensor:
    steps = torch.arange(len(tokens))
    return model.logits(model(tokens[None], steps, steps[None, :] <= steps[:, None]))[0]


def _assert_equal(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_logits_equal_those_of_transformers(case: str, tmp_path: Path) -> None:
    """As plain text, and as prefix, separator and context of the decoder's own cache."""
    family, changes = CASES[case]
    theirs = save_model(tmp_path / "source", family, **changes)
    assert ("max_shard_size" in changes) == (len(list(tmp_path.rglob("*.safetensors"))) > 1)
    convert(tmp_path / "source", tmp_path / "out")
    checkpoint = Checkpoint.open(tmp_path / "out")
    ours = checkpoint.load_model(dtype=torch.float32)

    tokens = _tokens(LENGTH, 1)
    expected = theirs(tokens[None]).logits[0]
    assert expected.std() > 0.3
    _assert_equal(_causal(ours, tokens), expected)

    config, layout = checkpoint.config, ours.layout
    cache = SlotCache(ours, num_slots=1)
    prefilled = ours.prefill(cache, 0, tokens[:-1], all_logits=True).logits
    decoded = ours.decode(cache, torch.tensor([0]), tokens[-1:]).logits
    sequence = torch.tensor([*config.prefix_ids, config.separator_id, *tokens.tolist()])
    places = torch.arange(len(sequence))
    places[layout.num_prefix :] += layout.reference_length
    expected = theirs(
        sequence[None], position_ids=places[None], attention_mask=torch.ones_like(sequence)[None]
    ).logits[0, layout.num_prefix :]
    _assert_equal(torch.cat((prefilled, decoded)), expected)
    assert config.num_parameters == theirs.num_parameters()


@pytest.mark.parametrize("case", ["llama-llama3", "llama-linear", "qwen3-mscale"])
@torch.inference_mode()
def test_the_comparison_sees_the_scaling(case: str, tmp_path: Path) -> None:
    """Without the scaling the logits differ, so equal ones show that it is right."""
    family, changes = CASES[case]
    theirs = save_model(tmp_path / "source", family, **changes)
    convert(tmp_path / "source", tmp_path / "out")
    checkpoint = Checkpoint.open(tmp_path / "out")
    ours = checkpoint.load_model(dtype=torch.float32)
    ours.config = replace(checkpoint.config, rope_scaling=None)
    tokens = _tokens(LENGTH, 1)
    assert (_causal(ours, tokens) - theirs(tokens[None]).logits[0]).abs().max() > 0.05


@pytest.mark.parametrize("case", ["llama-llama3", "mistral", "qwen2", "qwen3"])
@torch.inference_mode()
def test_a_full_memory_equals_the_text(case: str, tmp_path: Path) -> None:
    """All tokens kept and all layers memory layers: reading the memory is reading the text."""
    family, changes = CASES[case]
    theirs = save_model(tmp_path / "source", family, **changes)
    options = ConversionOptions(
        num_memory_layers=4, tokens_kept=40, reference_length=40, references_per_chunk=1
    )
    convert(tmp_path / "source", tmp_path / "out", options)
    checkpoint = Checkpoint.open(tmp_path / "out")
    config, ours = checkpoint.config, checkpoint.load_model(dtype=torch.float32)
    reference, context = _tokens(40, 2).tolist(), _tokens(30, 3)
    (memory,) = MemoryWriter(ours, config).write([reference])
    output = ours.prefill(SlotCache(ours, num_slots=1), 0, context, [[memory]], all_logits=True)
    sequence = [*config.prefix_ids, *reference, config.separator_id, *context.tolist()]
    expected = theirs(torch.tensor([sequence])).logits[0, -31:]
    _assert_equal(output.logits, expected)


@torch.inference_mode()
def test_a_sparse_memory_is_read(tmp_path: Path) -> None:
    """With eight tokens and half the layers, as converted by default, a memory still tells."""
    save_model(tmp_path / "source", "qwen3", head_dim=16)
    convert(tmp_path / "source", tmp_path / "out")
    checkpoint = Checkpoint.open(tmp_path / "out")
    ours, context = checkpoint.load_model(dtype=torch.float32), _tokens(20, 4)
    memories = MemoryWriter(ours, checkpoint.config).write([_tokens(90, 5).tolist()])
    assert memories[0].keys.shape == (2, 2, 8, 16)
    cache = SlotCache(ours, num_slots=2)
    with_memory = ours.prefill(cache, 0, context, [memories], report=True)
    without = ours.prefill(cache, 1, context)
    assert (with_memory.logits - without.logits).abs().max() > 1e-2
    assert with_memory.mass is not None
    assert with_memory.mass[0, 0] > 0.01
