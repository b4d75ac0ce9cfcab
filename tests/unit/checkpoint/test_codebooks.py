"""A checkpoint with codebooks: part of its digest, checked against its shape when it is opened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memory3.checkpoint import Checkpoint
from memory3.errors import (
    CheckpointDigestError,
    CheckpointFormatError,
    CheckpointMissingFileError,
    CheckpointShapeError,
    Memory3Error,
)
from memory3.manifest import digest_of, sha256_of
from memory3.testing.checkpoints import tiny_checkpoint, tiny_codebooks

FILE = "codec.safetensors"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    """A tiny checkpoint with codebooks."""
    return tiny_checkpoint(tmp_path / "with", codebooks=0)


def test_codebooks_are_part_of_the_digest(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """None, these and others make three checkpoints, alike in every other file."""
    without = tiny_checkpoint(tmp_path / "without")
    others = tiny_checkpoint(tmp_path / "others", codebooks=1)
    assert without.codec_file is None
    assert checkpoint.codec_file == checkpoint.path / FILE
    assert len({without.digest, checkpoint.digest, others.digest}) == 3
    files = dict(checkpoint.manifest.files)
    assert files.pop(FILE) != others.manifest.files[FILE]
    assert files == without.manifest.files


def _replace(checkpoint: Checkpoint, content: bytes) -> None:
    """Other codebooks under a manifest that agrees with them."""
    (checkpoint.path / FILE).write_bytes(content)
    files = {**checkpoint.manifest.files, FILE: sha256_of(checkpoint.path / FILE)}
    manifest = checkpoint.path / "manifest.json"
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**values, "files": files, "digest": digest_of(files)}))


@pytest.mark.parametrize("shape", [(3, 2, 2, 8, 16), (2, 2, 4, 8, 16), (2, 2, 2, 8, 32)])
def test_codebooks_of_another_model_are_refused(
    checkpoint: Checkpoint, shape: tuple[int, int, int, int, int]
) -> None:
    """Layers, heads and head dim are the model's, whatever the manifest says."""
    _replace(checkpoint, tiny_codebooks(shape).to_bytes())
    with pytest.raises(CheckpointShapeError) as caught:
        Checkpoint.open(checkpoint.path)
    assert caught.value.field == f"{FILE}:mean"
    assert "quantiser" in (caught.value.remedy or "")


def test_codebooks_for_other_tokens_kept_are_taken(checkpoint: Checkpoint) -> None:
    """A code is of one vector, however many a memory has."""
    _replace(checkpoint, tiny_codebooks((2, 2, 2, 4, 16)).to_bytes())
    assert Checkpoint.open(checkpoint.path).codec_file is not None


def test_damage_is_found(checkpoint: Checkpoint) -> None:
    """A file that is no safetensors file, another than the manifest's, or gone."""
    path = checkpoint.path / FILE
    _replace(checkpoint, b"\x80\x04 a pickle")
    _fails(checkpoint, CheckpointFormatError)
    path.write_bytes(tiny_codebooks((2, 2, 2, 8, 16)).to_bytes())
    _fails(checkpoint, CheckpointDigestError)
    path.unlink()
    _fails(checkpoint, CheckpointMissingFileError)


def _fails(checkpoint: Checkpoint, kind: type[Memory3Error]) -> None:
    with pytest.raises(kind) as caught:
        Checkpoint.open(checkpoint.path)
    assert caught.value.field == FILE
