"""What conversion makes: config, weights, tokens, embedder, and what it tells of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from memory3.checkpoint import Checkpoint
from memory3.conversion import source as source_module
from memory3.conversion.convert import convert
from memory3.conversion.options import ConversionOptions
from memory3.embedders.lexical import LexicalEmbedder
from memory3.errors import InvalidArgumentError
from memory3.model.config import MemoryConfig
from tests.huggingface import save_model
from tests.unit.conversion.conftest import edit, save_weights


def test_the_report_is_of_the_checkpoint(sound: Path, tmp_path: Path) -> None:
    """Digest, size and tokens are those of what lies on disk; layers are the lower half."""
    progress: list[tuple[int, int]] = []
    report = convert(sound, tmp_path / "out", on_progress=lambda *step: progress.append(step))
    checkpoint = Checkpoint.open(tmp_path / "out")
    config = checkpoint.config
    assert (report.digest, report.name) == (checkpoint.digest, "sound")
    assert report.num_parameters == config.num_parameters
    assert report.memory_bytes == 2 * (2 * 2 * 2 * 8 * 16)
    assert config.memory == MemoryConfig(num_memory_layers=2)
    prefix = checkpoint.tokenizer.encode("Reference:", add_special_tokens=False).ids
    assert config.prefix_ids == report.prefix_ids == (1, *prefix)
    assert (config.separator_id, config.eos_id, config.pad_id) == (1, 2, 0)
    assert config.context_length == 512 - 128 - len(prefix) - 2
    assert progress[-1] == (4 * config.num_parameters, 4 * config.num_parameters)
    assert progress == sorted(progress)
    (stage,) = checkpoint.manifest.provenance["stages"]
    assert (stage["name"], stage["model_type"]) == ("conversion", "qwen3")


def test_options_are_taken(sound: Path, tmp_path: Path) -> None:
    """Every option reaches the configuration."""
    options = ConversionOptions(
        num_memory_layers=3, tokens_kept=4, reference_length=64, chunk_length=32,
        references_per_chunk=2, context_length=100, name="mine",
    )  # fmt: skip
    convert(sound, tmp_path / "out", options)
    config = Checkpoint.open(tmp_path / "out").config
    assert config.memory == MemoryConfig(3, 4, 64, 32, 2)
    assert (config.name, config.context_length) == ("mine", 100)


@pytest.mark.parametrize(
    ("stored", "asked", "expected"),
    [
        (torch.bfloat16, "keep", torch.bfloat16),
        (torch.float16, "keep", torch.float16),
        (torch.bfloat16, "float32", torch.float32),
        (torch.float32, "bfloat16", torch.bfloat16),
    ],
)
def test_weights_have_the_number_format_asked_for(
    tmp_path: Path, stored: torch.dtype, asked: str, expected: torch.dtype
) -> None:
    """Kept, or converted as torch converts."""
    model = save_model(tmp_path / "source", "llama", dtype=stored)
    convert(tmp_path / "source", tmp_path / "out", ConversionOptions(dtype=asked))
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {expected}
    assert torch.equal(weights["embedding.weight"], model.model.embed_tokens.weight.to(expected))


def test_mixed_number_formats_are_kept(source: Path, tmp_path: Path) -> None:
    """Norms may be stored wider than matrices."""
    before = {}
    for file in source.glob("model-*.safetensors"):
        weights = load_file(file)
        mixed = {k: w.bfloat16() if w.dim() == 2 else w for k, w in weights.items()}
        before |= mixed
        save_weights(mixed, file)
    report = convert(source, tmp_path / "out")
    assert report.dtype == "BF16, F32"
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(after["norm.weight"], before["model.norm.weight"])
    assert torch.equal(
        after["blocks.3.mlp.w2.weight"], before["model.layers.3.mlp.down_proj.weight"]
    )


def test_weights_in_parts_are_the_weights(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A matrix read three rows at a time comes out whole."""
    whole = convert(sound, tmp_path / "whole")
    monkeypatch.setattr(source_module, "_ROWS_BYTES", 3 * 8 * 32)
    assert convert(sound, tmp_path / "parts").digest == whole.digest


def test_older_files_mean_the_same(tmp_path: Path) -> None:
    """Rope in two fields, computed tables among the weights, a copy of a tied head."""
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling |= {"original_max_position_embeddings": 64}
    path = tmp_path / "source"
    save_model(
        path, "llama", tie_word_embeddings=True,
        rope_parameters={"rope_type": "llama3", "rope_theta": 5000.0, **scaling},
    )  # fmt: skip
    newer = convert(path, tmp_path / "newer")
    edit(path, rope_parameters=..., rope_theta=5000.0, rope_scaling={"type": "llama3", **scaling})
    weights = load_file(path / "model.safetensors")
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_weights(weights, path / "model.safetensors")
    assert convert(path, tmp_path / "older").digest == newer.digest


def test_texts_are_counted(sound: Path, tmp_path: Path) -> None:
    """Words that are everywhere weigh less; without texts all weigh the same."""
    texts = [f"the river and the town number{i}" for i in range(20)]
    assert convert(sound, tmp_path / "flat").num_texts == 0
    assert convert(sound, tmp_path / "counted", texts=texts).num_texts == 20
    flat, counted = (
        LexicalEmbedder.from_checkpoint(tmp_path / name / "embedder", None)
        for name in ("flat", "counted")
    )
    assert flat.idf("the") == flat.idf("number3")
    assert counted.idf("the") < counted.idf("number3")


@pytest.mark.parametrize(
    ("family", "changes", "window"),
    [
        ("mistral", {"sliding_window": 300}, 300),
        ("mistral", {"sliding_window": None}, None),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 300, "max_window_layers": 2}, 300),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 300}, None),  # from layer 28 on
        ("qwen2", {"use_sliding_window": False, "sliding_window": 300}, None),
    ],
)
def test_a_sliding_window_limits_the_context(
    tmp_path: Path, family: str, changes: dict[str, object], window: int | None
) -> None:
    """No context leaves the window; more is refused when asked for."""
    save_model(tmp_path / "source", family, **changes)
    report = convert(tmp_path / "source", tmp_path / "out")
    before = len(report.prefix_ids) + 128 + 1
    assert report.context_length == (window or 512) - before
    assert any("window" in note for note in report.notes) == (window is not None)
    more = ConversionOptions(context_length=report.context_length + 1)
    if window is None:
        assert "trained for" in convert(tmp_path / "source", tmp_path / "out", more).notes[-1]
        return
    with pytest.raises(InvalidArgumentError) as caught:
        convert(tmp_path / "source", tmp_path / "out", more)
    assert caught.value.field == "context_length"
    assert str(report.context_length) in str(caught.value.remedy)


def test_a_silent_mistral_slides(tmp_path: Path) -> None:
    """A file without the field means the first Mistral's window, null means none."""
    save_model(tmp_path / "source", "mistral", max_position_embeddings=32_768)
    edit(tmp_path / "source", sliding_window=...)
    assert convert(tmp_path / "source", tmp_path / "out").context_length < 4096
    edit(tmp_path / "source", sliding_window=None)
    report = convert(tmp_path / "source", tmp_path / "out")
    assert report.context_length == 8192
    assert "--context-length" in report.notes[-1]


def test_conversion_needs_no_transformers(sound: Path, tmp_path: Path) -> None:
    """Neither the library nor what it needs is imported."""
    code = (
        "import sys; from memory3.conversion.convert import convert\n"
        f"convert({str(sound)!r}, {str(tmp_path / 'out')!r})\n"
        "print('transformers' in sys.modules, 'grpc' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["False", "False"]


def test_the_tokenizer_does_not_cut(source: Path, tmp_path: Path) -> None:
    """Truncation and padding stored with a tokenizer are taken out: they would change texts."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(source / "tokenizer.json"))
    convert(source, tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert (stored["truncation"], stored["padding"]) == (None, None)
