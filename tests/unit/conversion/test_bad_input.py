"""Sources and options that cannot be: each ends in a typed error with field and remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from memory3.conversion.convert import convert
from memory3.conversion.options import ConversionOptions
from memory3.errors import (
    CheckpointFormatError,
    CheckpointMissingFileError,
    CheckpointShapeError,
    InvalidArgumentError,
    Memory3Error,
)
from tests.unit.conversion.conftest import edit, edit_weights

Spoil = Callable[[Path], None]


def _config(**changes: Any) -> Spoil:
    return lambda path: edit(path, **changes)


def _weights(change: Callable[[dict[str, Any]], None]) -> Spoil:
    return lambda path: edit_weights(path, change)


def _scaling(**changes: Any) -> Spoil:
    scaling = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}
    return _config(rope_parameters={**scaling, **changes})


def _pickled(path: Path) -> None:
    for shard in path.glob("*.safetensors*"):
        shard.unlink()
    (path / "pytorch_model.bin").write_bytes(b"\x80\x04")


def _no_weights(path: Path) -> None:
    for shard in path.glob("*.safetensors*"):
        shard.unlink()


def _cut(path: Path) -> None:
    shard = min(path.glob("model-*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])


def _first(weights: dict[str, Any]) -> str:
    return min(weights)


def _drop(weights: dict[str, Any]) -> None:
    del weights[_first(weights)]


def _shorten(weights: dict[str, Any]) -> None:
    weights[_first(weights)] = weights[_first(weights)][:-1].contiguous()


def _surplus(weights: dict[str, Any]) -> None:
    weights["model.layers.0.self_attn.lora_A.weight"] = torch.ones(2, 2)


def _again(path: Path) -> None:
    first, second = sorted(path.glob("model-*.safetensors"))[:2]
    second.write_bytes(first.read_bytes())


def _integers(weights: dict[str, Any]) -> None:
    weights[_first(weights)] = weights[_first(weights)].to(torch.int8)


def _doubles(weights: dict[str, Any]) -> None:
    weights[_first(weights)] = weights[_first(weights)].double()


def _nan(weights: dict[str, Any]) -> None:
    weights[_first(weights)].view(-1)[-1] = float("nan")


SPOILT: dict[str, tuple[Spoil, type[Memory3Error], str]] = {
    "no config": (
        lambda p: (p / "config.json").unlink(), CheckpointMissingFileError, "config.json",
    ),
    "config no JSON": (
        lambda p: (p / "config.json").write_text("{"), CheckpointFormatError, "config.json",
    ),
    "config a list": (
        lambda p: (p / "config.json").write_text("[]"), CheckpointFormatError, "config.json",
    ),
    "mixture of experts": (
        _config(model_type="mixtral"), CheckpointFormatError, "config.json:model_type",
    ),
    "no model type": (_config(model_type=...), CheckpointFormatError, "config.json:model_type"),
    "code of its own": (
        _config(auto_map={"AutoModelForCausalLM": "x.Y"}), CheckpointFormatError,
        "config.json:auto_map",
    ),
    "quantised": (
        _config(quantization_config={"quant_method": "gptq"}), CheckpointFormatError,
        "config.json:quantization_config",
    ),
    "another activation": (
        _config(hidden_act="gelu"), CheckpointFormatError, "config.json:hidden_act",
    ),
    "no width": (_config(hidden_size=...), CheckpointFormatError, "config.json:hidden_size"),
    "width a text": (_config(hidden_size="32"), CheckpointFormatError, "config.json:hidden_size"),
    "eps of zero": (_config(rms_norm_eps=0), CheckpointFormatError, "config.json:rms_norm_eps"),
    "tie a number": (
        _config(tie_word_embeddings=1), CheckpointFormatError, "config.json:tie_word_embeddings",
    ),
    "odd heads": (_config(head_dim=15), CheckpointFormatError, "config.json (head_dim)"),
    "heads that cannot share": (
        _config(num_key_value_heads=3), CheckpointFormatError, "config.json (num_kv_heads)",
    ),
    "unknown layers": (
        _config(layer_types=["linear_attention"]), CheckpointFormatError, "config.json:layer_types",
    ),
    "dynamic rope": (
        _scaling(rope_type="dynamic"), CheckpointFormatError,
        "config.json:rope_parameters.rope_type",
    ),
    "longrope": (
        _config(rope_scaling={"type": "longrope", "factor": 2.0}, rope_parameters=...),
        CheckpointFormatError, "config.json:rope_scaling.rope_type",
    ),
    "rope without factor": (
        _scaling(factor=None), CheckpointFormatError,
        "config.json:rope_parameters.factor",
    ),
    "rope that shrinks": (
        _scaling(factor=0.5), CheckpointFormatError, "config.json:rope_parameters.factor",
    ),
    "rope of a part": (
        _scaling(partial_rotary_factor=0.5), CheckpointFormatError,
        "config.json:rope_parameters.partial_rotary_factor",
    ),
    "rope by layer": (
        _config(rope_parameters={"full_attention": {"rope_theta": 1e4}}), CheckpointFormatError,
        "config.json:rope_parameters.full_attention",
    ),
    "end token a text": (
        _config(eos_token_id="</s>"), CheckpointFormatError, "config.json:eos_token_id",
    ),
    "no end token": (_config(eos_token_id=...), CheckpointFormatError, "config.json:eos_token_id"),
    "begin token outside": (
        _config(bos_token_id=5000), CheckpointFormatError, "config.json (separator_id)",
    ),
    "no tokenizer": (
        lambda p: (p / "tokenizer.json").unlink(), CheckpointMissingFileError, "tokenizer.json",
    ),
    "tokenizer no tokenizer": (
        lambda p: (p / "tokenizer.json").write_text("{}"), CheckpointFormatError, "tokenizer.json",
    ),
    "tokenizer of a larger model": (
        _config(vocab_size=500), CheckpointShapeError, "tokenizer.json",
    ),
    "pickled": (_pickled, CheckpointFormatError, "pytorch_model.bin"),
    "no weights": (_no_weights, CheckpointMissingFileError, "model.safetensors"),
    "a shard missing": (
        lambda p: min(p.glob("model-*.safetensors")).unlink(), CheckpointMissingFileError,
        "model-00001",
    ),
    "a shard cut off": (_cut, CheckpointFormatError, "model-00001"),
    "a shard twice": (_again, CheckpointShapeError, "model-00002"),
    "an index of nothing": (
        lambda p: edit(p, "model.safetensors.index.json", weight_map={}), CheckpointFormatError,
        "model.safetensors.index.json",
    ),
    "an index that leads out": (
        lambda p: edit(p, "model.safetensors.index.json", weight_map={"a": "../b.safetensors"}),
        CheckpointFormatError, "model.safetensors.index.json",
    ),
    "a weight missing": (_weights(_drop), CheckpointShapeError, "source:"),
    "a weight too short": (_weights(_shorten), CheckpointShapeError, "model-00001"),
    "a weight too many": (_weights(_surplus), CheckpointShapeError, "lora_A"),
    "more layers than weights": (
        _config(num_hidden_layers=5, layer_types=...), CheckpointShapeError, "model.layers.4",
    ),
    "integers": (_weights(_integers), CheckpointShapeError, "model-00001"),
    "doubles": (_weights(_doubles), CheckpointShapeError, "model-00001"),
    "not finite": (_weights(_nan), CheckpointFormatError, "model-00001"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_source_is_refused(case: str, source: Path, tmp_path: Path) -> None:
    """The error is of its kind and names what is wrong; nothing is left where it was to be."""
    spoil, kind, field = SPOILT[case]
    spoil(source)
    with pytest.raises(Memory3Error) as caught:
        convert(source, tmp_path / "out")
    assert type(caught.value) is kind
    assert field in str(caught.value.field)
    assert caught.value.remedy
    assert [item.name for item in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"num_memory_layers": 5}, "memory.num_memory_layers"),
        ({"num_memory_layers": 0}, "memory.num_memory_layers"),
        ({"tokens_kept": 0}, "memory.tokens_kept"),
        ({"tokens_kept": 129}, "memory.reference_length"),
        ({"reference_length": 257}, "memory.reference_length"),
        ({"chunk_length": 0}, "memory.chunk_length"),
        ({"references_per_chunk": 0}, "memory.references_per_chunk"),
        ({"context_length": 0}, "context_length"),
        ({"name": ""}, "name"),
    ],
)
def test_an_option_out_of_range_is_refused(
    options: dict[str, Any], field: str, sound: Path, tmp_path: Path
) -> None:
    """An option is the caller's fault, and names itself."""
    with pytest.raises(InvalidArgumentError) as caught:
        convert(sound, tmp_path / "out", ConversionOptions(**options))
    assert caught.value.field == field
    assert caught.value.remedy
    assert not any(tmp_path.iterdir())


def test_a_context_must_fit_behind_the_memories(source: Path, tmp_path: Path) -> None:
    """A model of few positions needs shorter references."""
    edit(source, max_position_embeddings=100)
    with pytest.raises(InvalidArgumentError) as caught:
        convert(source, tmp_path / "out")
    assert caught.value.field == "reference_length"
    report = convert(source, tmp_path / "out", ConversionOptions(reference_length=32))
    assert 0 < report.context_length < 68


def test_nothing_of_the_users_is_overwritten(sound: Path, source: Path) -> None:
    """A directory that is no checkpoint stays as it was, the source itself included."""
    before = sorted(item.name for item in source.iterdir())
    with pytest.raises(InvalidArgumentError) as caught:
        convert(source, source)
    assert caught.value.field == "path"
    assert sorted(item.name for item in source.iterdir()) == before


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    """So is a file in its place."""
    (tmp_path / "file").write_text("")
    for name in ("nowhere", "file"):
        with pytest.raises(CheckpointMissingFileError) as caught:
            convert(tmp_path / name, tmp_path / "out")
        assert name in str(caught.value)
