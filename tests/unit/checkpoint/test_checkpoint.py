"""Saving and opening: the same model comes back, under a digest of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from memory3.checkpoint import Checkpoint, save_checkpoint
from memory3.embedders.lexical import LexicalEmbedder
from memory3.errors import CheckpointShapeError, InvalidArgumentError
from memory3.testing.checkpoints import tiny_checkpoint, tiny_config, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny random checkpoint, saved once."""
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny", seed=3)


def _logits(model: torch.nn.Module) -> torch.Tensor:
    steps = torch.arange(20)
    with torch.inference_mode():
        hidden = model(torch.arange(5, 25)[None], steps, steps[None, :] <= steps[:, None])
        return model.logits(hidden)


def test_the_model_comes_back(checkpoint: Checkpoint) -> None:
    """Same weights, same answers, nothing to train, ready to run."""
    model = checkpoint.load_model(dtype=torch.float32)
    original = tiny_model(checkpoint.config, seed=3)
    assert torch.equal(_logits(model), _logits(original))
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_the_model_comes_in_the_dtype_asked_for(checkpoint: Checkpoint) -> None:
    """bfloat16 weights, and logits near those of float32."""
    model = checkpoint.load_model(dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    exact = _logits(checkpoint.load_model(dtype=torch.float32))
    assert (_logits(model) - exact).abs().max() < 0.2 * exact.std()


def test_another_user_can_read_every_file(checkpoint: Checkpoint) -> None:
    """All files have one mode: services seldom run as the user who trained."""
    files = [item for item in checkpoint.path.rglob("*") if item.is_file()]
    plain = checkpoint.path.parent / "plain"
    plain.touch()
    assert {item.stat().st_mode for item in files} == {plain.stat().st_mode}


def test_configuration_and_tokenizer_come_back(checkpoint: Checkpoint) -> None:
    """Opened again, all its parts are what was saved."""
    again = Checkpoint.open(checkpoint.path)
    assert again == checkpoint
    assert again.config == tiny_config(tiny_tokenizer())
    text = "Any text — 任意 — returns."
    ids = again.tokenizer.encode(text, add_special_tokens=False).ids
    assert again.tokenizer.decode(ids) == text
    assert max(ids) < again.config.vocab_size


def test_the_embedder_comes_back(checkpoint: Checkpoint) -> None:
    """Its files are where embedders look for them."""
    embedder = LexicalEmbedder.from_checkpoint(checkpoint.embedder_dir, None)
    assert embedder.embed(["Where was she born?"], "query").any()


def test_the_wire_form_says_what_a_memory_is(checkpoint: Checkpoint) -> None:
    """Digest, size and layout for `GetInfo`."""
    info = checkpoint.info()
    assert (info.digest, info.name) == (checkpoint.digest, "tiny-random")
    assert info.num_parameters == sum(p.numel() for p in tiny_model(checkpoint.config).parameters())
    layout = info.memory_layout
    assert (
        layout.num_memory_layers, layout.num_kv_heads, layout.head_dim, layout.tokens_kept,
        layout.reference_length, layout.chunk_length, layout.references_per_chunk,
    ) == (2, 2, 16, 8, 128, 64, 5)  # fmt: skip


def _save(path: Path, checkpoint: Checkpoint, **changes: object) -> Checkpoint:
    parts: dict[str, object] = {
        "config": checkpoint.config,
        "state_dict": tiny_model(checkpoint.config, seed=3).state_dict(),
        "tokenizer": tiny_tokenizer(),
        "embedder_files": {
            item.name: item.read_bytes() for item in checkpoint.embedder_dir.iterdir()
        },
        "provenance": checkpoint.manifest.provenance,
        "scores": {},
    }
    return save_checkpoint(path, **{**parts, **changes})  # type: ignore[arg-type]


def test_the_digest_follows_what_a_checkpoint_computes(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """The same parts give the same digest; scores and provenance do not change it."""
    scored = _save(
        tmp_path / "scored", checkpoint, scores={"accuracy": 0.97}, provenance={"command": "x"}
    )
    assert scored.digest == checkpoint.digest
    assert scored.manifest.scores == {"accuracy": 0.97}
    assert scored.manifest.provenance == {"command": "x"}


@pytest.mark.parametrize("part", ["state_dict", "config", "tokenizer", "embedder_files"])
def test_the_digest_changes_with_every_part(
    checkpoint: Checkpoint, tmp_path: Path, part: str
) -> None:
    """Weights, configuration, tokenizer and embedder: a change of any is another checkpoint."""
    weights = {k: v.clone() for k, v in tiny_model(checkpoint.config, seed=3).state_dict().items()}
    weights["norm.weight"][0] += 1e-3
    changed = {
        "state_dict": weights,
        "config": replace(checkpoint.config, rope_base=20_000.0),
        "tokenizer": tiny_tokenizer(["other words make other tokens"] * 3),
        "embedder_files": {"other.json": b"{}"},
    }
    other = _save(tmp_path / "other", checkpoint, **{part: changed[part]})
    assert other.digest != checkpoint.digest


def test_a_checkpoint_replaces_a_checkpoint(tmp_path: Path) -> None:
    """Saving over one leaves only the new, and nothing beside it."""
    first = tiny_checkpoint(tmp_path / "one", seed=1)
    second = tiny_checkpoint(tmp_path / "one", seed=2)
    assert first.digest != second.digest
    assert Checkpoint.open(tmp_path / "one").digest == second.digest
    assert [item.name for item in tmp_path.iterdir()] == ["one"]


def test_nothing_else_is_overwritten(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A folder that is no checkpoint stays as it is."""
    taken = tmp_path / "letters"
    taken.mkdir()
    (taken / "letter.txt").write_text("dear")
    with pytest.raises(InvalidArgumentError) as caught:
        _save(taken, checkpoint)
    assert caught.value.field == "path"
    assert (taken / "letter.txt").read_text() == "dear"


def test_weights_that_do_not_fit_are_not_saved(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A faulty save leaves nothing, and the checkpoint that was there before."""
    before = tiny_checkpoint(tmp_path / "kept", seed=1)
    weights = dict(tiny_model(checkpoint.config).state_dict())
    del weights["norm.weight"]
    with pytest.raises(CheckpointShapeError) as caught:
        _save(tmp_path / "kept", checkpoint, state_dict=weights)
    assert caught.value.field == "model.safetensors:norm.weight"
    assert Checkpoint.open(tmp_path / "kept").digest == before.digest
    assert [item.name for item in tmp_path.iterdir()] == ["kept"]


def test_opening_needs_no_torch(checkpoint: Checkpoint) -> None:
    """The retriever opens, hashes and checks a checkpoint without it."""
    code = (
        "import sys; from memory3.checkpoint import Checkpoint\n"
        f"checkpoint = Checkpoint.open({str(checkpoint.path)!r}); checkpoint.tokenizer\n"
        "print(checkpoint.info().digest, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == [checkpoint.digest, "False"]


def test_the_manifest_names_every_file(checkpoint: Checkpoint) -> None:
    """Nothing in the directory is outside the digest, but the manifest itself."""
    manifest = json.loads((checkpoint.path / "manifest.json").read_text())
    found = {
        item.relative_to(checkpoint.path).as_posix()
        for item in checkpoint.path.rglob("*")
        if item.is_file()
    }
    assert found == {*manifest["files"], "manifest.json"}
    assert manifest["format_version"] == 1
