"""The command: from a checkpoint and texts to the same checkpoint with codebooks."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from memory3_trainer.cli import app
from typer.testing import CliRunner

from memory3.checkpoint import Checkpoint
from memory3.codecs.loading import load_codec
from memory3.memory.reader import MemoryReader
from memory3.memory.writer import MemoryWriter, to_envelope
from memory3.people import iter_documents
from memory3.testing.checkpoints import tiny_checkpoint

SMALL = ("--coarse-bits", "5", "--num-parts", "4", "--fine-bits", "5")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny checkpoint without codebooks."""
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty biographies."""
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    rows = iter_documents(Random(3), 80)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    return path


def _run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["quantiser", *map(str, arguments)])


def test_a_checkpoint_gets_codebooks(checkpoint: Checkpoint, texts: Path, tmp_path: Path) -> None:
    """Every other file stays, the report is of unseen references, and memories come back close."""
    out = tmp_path / "out"
    ended = _run(checkpoint.path, "--texts", texts, "--out", out, *SMALL, "--output", "json")
    assert ended.exit_code == 0, ended.stderr
    report = json.loads(ended.stdout)
    made = Checkpoint.open(out)
    assert (report["digest"], report["replaced_digest"]) == (made.digest, checkpoint.digest)
    files = dict(made.manifest.files)
    del files["codec.safetensors"]
    assert files == checkpoint.manifest.files
    assert checkpoint.codec_file is None
    told = made.manifest.provenance["quantiser"]
    assert (told["texts"], told["factory"]) == (["texts.jsonl"], "OPQ4_16,Residual2x5,PQ4x5")
    assert made.manifest.provenance["note"] == checkpoint.manifest.provenance["note"]
    assert report["bytes_per_memory"] == {"raw": 2048, "int8": 1152, "opq": 64 * 5}
    assert report["codebook_bytes"] == (out / "codec.safetensors").stat().st_size
    errors = report["relative_error"]
    assert errors["raw"]["key"] < errors["int8"]["key"] < errors["opq"]["key"] < 0.3
    _comes_back(made, errors["opq"])


def _comes_back(made: Checkpoint, errors: dict[str, float]) -> None:
    """A memory never seen, through the envelope, errs as the report says."""
    model = made.load_model(dtype=torch.float32)
    (text,) = iter_documents(Random(77), 1)
    ids = made.tokenizer.encode(text, add_special_tokens=False).ids[:100]
    (memory,) = MemoryWriter(model, made.config).write([ids])
    reader = MemoryReader(made.config, made.digest, codec_file=made.codec_file, dtype=torch.float32)
    read = reader.read(to_envelope(memory, load_codec("opq", made.codec_file), made.digest))
    for name, exact, decoded in (
        ("key", memory.keys, read.keys),
        ("value", memory.values, read.values),
    ):
        error = float((exact - decoded).square().sum() / exact.square().sum())
        assert errors[name] / 2 < error < 2 * errors[name]


def test_in_place_and_as_a_table(texts: Path, tmp_path: Path) -> None:
    """Without --out the checkpoint itself is replaced, and with it the codebooks that it had."""
    old = tiny_checkpoint(tmp_path / "own", codebooks=0)
    ended = _run(old.path, "--texts", texts, *SMALL, "--per-layer")
    assert ended.exit_code == 0, ended.stderr
    facts = dict(line.rsplit(maxsplit=1) for line in ended.stdout.splitlines())
    new = Checkpoint.open(old.path)
    assert facts["replaced_digest"] == old.digest != new.digest == facts["digest"]
    assert float(facts["relative_error opq key"]) < 0.3


def test_it_says_what_is_wrong(checkpoint: Checkpoint, texts: Path, tmp_path: Path) -> None:
    """Too few references, no text, no file, an impossible size, no checkpoint: field and remedy."""
    blank = tmp_path / "blank.jsonl"
    blank.write_text('{"text": " "}\n')
    out = ("--out", tmp_path / "out")
    for arguments, says in (
        (
            (checkpoint.path, "--texts", texts, "--coarse-bits", 14),
            ("texts: ", "references are too few", "takes 512"),
        ),
        (
            (checkpoint.path, "--texts", texts, "--num-references", 1, *SMALL[:-1], 12),
            ("num_references: ", "1 references are too few"),
        ),
        ((checkpoint.path, "--texts", blank), ("texts: ", "no text")),
        ((checkpoint.path, "--texts", tmp_path / "absent.jsonl"), ("absent.jsonl: ", "no such")),
        ((checkpoint.path, "--texts", texts, "--num-parts", 5), ("num_parts: ", "divisor of 16")),
        ((checkpoint.path, "--texts", texts, "--device", "cuda:99"), ("device: ", "use cpu")),
        ((tmp_path / "nowhere", "--texts", texts), ("checkpoint: ", "trainer made")),
    ):
        ended = _run(*arguments, *out)
        assert ended.exit_code == 1
        assert ended.stderr.startswith("error: "), ended.stderr
        assert all(word in ended.stderr for word in says), ended.stderr
        assert not (tmp_path / "out").exists()
