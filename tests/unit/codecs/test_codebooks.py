"""Codebooks: stored and read again as they are, refused where they cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from memory3.codecs.codebooks import Codebooks
from memory3.errors import CheckpointFormatError, CheckpointShapeError
from memory3.testing.checkpoints import tiny_codebooks

SHAPE = (3, 2, 4, 8, 16)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Sound codebooks."""
    path = tmp_path / "codec.safetensors"
    path.write_bytes(tiny_codebooks(SHAPE).to_bytes())
    return path


def test_what_was_stored_is_read(file: Path) -> None:
    """Every number, and the layout that follows from the shapes."""
    books, expected = Codebooks.load(file), tiny_codebooks(SHAPE)
    for name in ("mean", "scale", "rotation", "coarse", "fine"):
        assert torch.equal(getattr(expected, name), getattr(books, name))
    assert (books.layout.coarse_bits, books.layout.num_parts, books.layout.fine_bits) == (6, 2, 6)
    assert books.num_bytes == expected.num_bytes < file.stat().st_size


def _change(file: Path, name: str, value: torch.Tensor | None) -> None:
    tensors = load_file(file)
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    save_file(tensors, file)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mean", None),
        ("surplus", torch.zeros(2)),
        ("mean", torch.zeros(3, 2, 4, 18)),
        ("mean", torch.zeros(3, 2, 64)),
        ("scale", torch.ones(3, 2, 5)),
        ("rotation", torch.zeros(2, 2, 16, 16)),
        ("rotation", torch.zeros(1, 2, 16, 15)),
        ("coarse", torch.zeros(1, 2, 2, 60, 8)),
        ("coarse", torch.zeros(1, 2, 3, 64, 8)),
        ("fine", torch.zeros(1, 2, 3, 64, 5)),
        ("fine", torch.zeros(1, 2, 2, 1, 8)),
        ("fine", torch.zeros(1, 2, 2, 64, 7)),
    ],
)
def test_other_shapes_are_refused(file: Path, name: str, value: torch.Tensor | None) -> None:
    """The error names the tensor at fault."""
    _change(file, name, value)
    with pytest.raises(CheckpointShapeError) as caught:
        Codebooks.load(file)
    assert caught.value.field is not None
    assert caught.value.field.startswith("codec.safetensors:")
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("name", "value"), [("mean", float("nan")), ("fine", float("inf")), ("scale", 0.0)]
)
def test_impossible_numbers_are_refused(file: Path, name: str, value: float) -> None:
    """One of them would spoil every memory."""
    tensor = load_file(file)[name]
    tensor.view(-1)[-1] = value
    _change(file, name, tensor)
    with pytest.raises(CheckpointFormatError) as caught:
        Codebooks.load(file)
    assert caught.value.field == f"codec.safetensors:{name}"


def test_another_file_is_refused(file: Path) -> None:
    """A file that is no safetensors file, or not there."""
    file.write_bytes(b"pickled")
    for path in (file, file.with_name("absent")):
        with pytest.raises(CheckpointFormatError):
            Codebooks.load(path)
