"""A stage starts from a converted model, and trains its biases and norms too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from memory3_trainer.stages.run import run_stage
from safetensors.torch import load_file
from tokenizers import Tokenizer

from memory3.conversion.convert import convert
from memory3.conversion.options import ConversionOptions
from tests.huggingface import save_model
from tests.unit.trainer.stages.conftest import tiny


@pytest.mark.parametrize(
    ("family", "changes", "own"),
    [
        ("qwen2", {}, ("attention.wq.bias", "attention.wv.bias")),
        ("qwen3", {"head_dim": 16}, ("attention.q_norm.weight", "attention.k_norm.weight")),
    ],
)
def test_a_stage_starts_from_a_converted_model(
    family: str,
    changes: dict[str, int],
    own: tuple[str, ...],
    tokenizer: Tokenizer,
    data: Path,
    tmp_path: Path,
) -> None:
    """What the family has beyond the paper learns with the rest, memories attached or not."""
    save_model(tmp_path / "source", family, **changes)
    tokenizer.save(str(tmp_path / "source" / "tokenizer.json"))
    options = ConversionOptions(dtype="float32", context_length=512)
    before = convert(tmp_path / "source", tmp_path / "converted", options)
    settings = tiny(start=str(tmp_path / "converted"), model={}, steps=2, dtype="float32")
    after = run_stage(settings, data, tmp_path / "run")
    assert after is not None
    conversion, stage = after.manifest.provenance["stages"]
    assert (conversion["name"], stage["started_from"]) == ("conversion", before.digest)
    old = load_file(tmp_path / "converted" / "model.safetensors")
    new = load_file(after.path / "model.safetensors")
    for name in own:
        assert not torch.equal(old[f"blocks.0.{name}"], new[f"blocks.0.{name}"])
