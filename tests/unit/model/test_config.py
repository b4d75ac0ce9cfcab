"""Shapes: the paper's figures, and every field that cannot be is refused by its name."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from memory3.errors import InvalidArgumentError
from memory3.model.config import PRESETS, MemoryConfig, ModelConfig, preset
from memory3.model.rope_scaling import RopeScaling
from memory3.testing.checkpoints import tiny_config, tiny_model


def test_the_papers_shape() -> None:
    """Paper §2: blocks, heads, width, memory layers, and what is kept of a reference."""
    config = preset("memory3-2b")
    shape = (config.num_layers, config.num_heads, config.num_kv_heads, config.head_dim)
    assert shape == (44, 40, 8, 80)
    assert (config.width, config.mlp_width, config.vocab_size) == (3200, 3200, 60_416)
    assert (config.context_length, config.rope_base) == (2048, 10_000.0)
    assert config.memory == MemoryConfig(22, 8, 128, 64, 5, "attention")
    assert config.memory_shape == (22, 2, 8, 8, 80)


def test_the_papers_parameter_counts() -> None:
    """2.433 B without embeddings, and 193 M for each embedding matrix."""
    config = preset("memory3-2b")
    assert config.num_non_embedding_parameters == pytest.approx(2.433e9, rel=1e-3)
    per_matrix = (config.num_parameters - config.num_non_embedding_parameters) / 2
    assert per_matrix == pytest.approx(193e6, rel=2e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"tie_embeddings": True},
        {"tie_embeddings": False},
        {"attention_bias": "qkv"},
        {"attention_bias": "all", "mlp_bias": True},
        {"qk_norm": True},
    ],
    ids=str,
)
def test_the_count_is_that_of_the_weights(changes: dict[str, Any]) -> None:
    """The formula counts what the model has, biases and norms too."""
    config = tiny_config(num_kv_heads=1, **changes)
    named = dict(tiny_model(config).named_parameters())
    assert config.num_parameters == sum(p.numel() for p in named.values())
    tables = [named[n].numel() for n in ("embedding.weight", "head.weight") if n in named]
    assert config.num_non_embedding_parameters == config.num_parameters - sum(tables)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_its_stored_form(name: str) -> None:
    """to_dict, JSON and from_dict give the same configuration."""
    config = preset(name)
    assert config == ModelConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert config.name == name


def test_optional_fields_survive_and_are_stored_only_where_used() -> None:
    """Models of the paper's kind keep the stored form, and so the digest, that they had."""
    optional = {"rope_scaling", "attention_bias", "mlp_bias", "qk_norm"}
    assert optional.isdisjoint(preset("tiny").to_dict())
    scaling = RopeScaling("yarn", 4.0, 2048, attention_factor=1.2, truncate=False)
    config = preset("tiny", rope_scaling=scaling, attention_bias="qkv", mlp_bias=True, qk_norm=True)
    stored = json.loads(json.dumps(config.to_dict()))
    assert optional <= stored.keys()
    assert config == ModelConfig.from_dict(stored)


def test_the_shipped_checkpoint_is_stored_as_before(root: Path) -> None:
    """Reading and writing its configuration changes no byte."""
    stored = (root / "checkpoints" / "people" / "config.json").read_text(encoding="utf-8")
    config = ModelConfig.from_dict(json.loads(stored))
    assert stored == json.dumps(config.to_dict(), indent=2, ensure_ascii=False) + "\n"


def test_a_preset_can_be_changed() -> None:
    """Fields given to `preset` replace its own, and are checked."""
    assert preset("tiny", vocab_size=999).vocab_size == 999
    with pytest.raises(InvalidArgumentError) as caught:
        preset("tiny", vocab_size=0)
    assert caught.value.field == "vocab_size"


def test_an_unknown_preset_lists_those_there_are() -> None:
    """The remedy names the presets."""
    with pytest.raises(InvalidArgumentError) as caught:
        preset("memory3-70b")
    assert caught.value.field == "preset"
    assert "memory3-2b, small, tiny" in str(caught.value.remedy)


COUNTS = (
    "vocab_size", "num_layers", "width", "mlp_width", "num_heads", "num_kv_heads", "head_dim",
    "context_length",
)  # fmt: skip
MEMORY_COUNTS = ("num_memory_layers", "tokens_kept", "chunk_length", "references_per_chunk")

INVALID: list[tuple[str, Any]] = [
    *((name, value) for name in COUNTS for value in (0, -1, 2.0, "4", None, True, 1 << 40)),
    ("num_kv_heads", 4),  # 6 query heads
    ("head_dim", 31),
    *((name, value) for name in ("separator_id", "eos_id", "pad_id") for value in (-1, 4096, "1")),
    *(("prefix_ids", value) for value in ([], [4096], [-1], ["a"], "ab", 5, None, [True])),
    *(("rope_base", value) for value in (0, -1.0, "x", None, float("nan"), float("inf"), 10**400)),
    *(("norm_eps", value) for value in (0.0, float("nan"), True)),
    *(("tie_embeddings", value) for value in (1, "yes", None)),
    *(("name", value) for value in ("", 5, None)),
    *(("memory", value) for value in (None, 5, [], "x")),
    *(("rope_scaling", value) for value in (5, [], "yarn", True)),
    *(("attention_bias", value) for value in ("", "kv", None, True)),
    *(("mlp_bias", value) for value in (1, None)),
    *(("qk_norm", value) for value in (1, "yes", None)),
]

SCALING = {"kind": "llama3", "factor": 8.0, "original_length": 8192}
SCALING_INVALID: list[tuple[str, Any]] = [
    *(("kind", value) for value in ("dynamic", "", None, 3)),
    *(("factor", value) for value in (0.5, 0, "8", float("inf"), None)),
    *(("original_length", value) for value in (0, 1.5, 1 << 40, None)),
    ("low_freq_factor", 4.0),  # not below high_freq_factor
    ("high_freq_factor", "4"),
    ("beta_fast", 0.0),
    ("beta_slow", 32.0),  # not below beta_fast
    ("attention_factor", -1.0),
    ("truncate", 1),
]

MEMORY_INVALID: list[tuple[str, str, Any]] = [
    *((n, n, value) for n in MEMORY_COUNTS for value in (0, -1, 1.5, "8", None, False, 1 << 40)),
    ("num_memory_layers", "num_memory_layers", 7),  # of 6 layers
    ("reference_length", "reference_length", 257),  # positions are stored in one byte
    ("reference_length", "reference_length", 7),  # fewer than the 8 kept
    ("reference_length", "tokens_kept", 129),
    ("reference_length", "reference_length", "128"),
    ("selector", "selector", ""),
    ("selector", "selector", 1),
]


def _assert_names(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        ModelConfig.from_dict(values)
    assert caught.value.field == field
    assert caught.value.remedy


@pytest.mark.parametrize(("name", "value"), INVALID)
def test_an_invalid_field_is_named(name: str, value: Any) -> None:
    """One wrong value names its field and what to give instead."""
    _assert_names({**preset("tiny").to_dict(), name: value}, name)


@pytest.mark.parametrize(("field", "name", "value"), MEMORY_INVALID)
def test_an_invalid_field_of_the_memory_is_named(field: str, name: str, value: Any) -> None:
    """Fields of the memory carry its prefix."""
    values = preset("tiny").to_dict()
    values["memory"] = {**values["memory"], name: value}
    _assert_names(values, f"memory.{field}")


@pytest.mark.parametrize(("name", "value"), SCALING_INVALID)
def test_an_invalid_field_of_the_scaling_is_named(name: str, value: Any) -> None:
    """Fields of the rope scaling carry its prefix."""
    values = {**preset("tiny").to_dict(), "rope_scaling": {**SCALING, name: value}}
    _assert_names(values, f"rope_scaling.{name}")


def test_scaling_needs_a_base_that_can_be_scaled() -> None:
    """A base of one turns all dimensions alike, and leaves nothing to slow."""
    _assert_names(
        {**preset("tiny").to_dict(), "rope_scaling": SCALING, "rope_base": 1.0}, "rope_base"
    )


def test_every_field_is_tried() -> None:
    """A field added to the configuration must be added to the tables above."""
    assert {f.name for f in fields(RopeScaling)} == {name for name, _ in SCALING_INVALID}
    assert {f.name for f in fields(ModelConfig)} == {name for name, _ in INVALID}
    assert {f.name for f in fields(MemoryConfig)} == {name for _, name, _ in MEMORY_INVALID}


def test_an_unknown_field_is_refused() -> None:
    """A field of a newer version is not ignored in silence."""
    values = preset("tiny").to_dict()
    _assert_names({**values, "num_experts": 8}, "num_experts")
    _assert_names({**values, "memory": {**values["memory"], "layers": 3}}, "memory.layers")


@pytest.mark.parametrize("name", ["vocab_size", "memory", "num_heads"])
def test_a_missing_field_is_named(name: str) -> None:
    """Fields without a default must be there."""
    values = preset("tiny").to_dict()
    del values[name]
    _assert_names(values, name)


def test_a_missing_field_of_the_memory_is_named() -> None:
    """Likewise inside the memory."""
    _assert_names({**preset("tiny").to_dict(), "memory": {}}, "memory.num_memory_layers")
