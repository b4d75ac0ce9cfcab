"""A checkpoint that was damaged, mixed up or made to harm is refused, and the error says where."""

from __future__ import annotations

import hashlib
import json
import pickle  # noqa: TID251 -- the attack that must fail
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from memory3.checkpoint import Checkpoint
from memory3.errors import (
    CheckpointDigestError,
    CheckpointError,
    CheckpointFormatError,
    CheckpointMissingFileError,
    CheckpointShapeError,
)
from memory3.manifest import digest_of
from memory3.testing.checkpoints import tiny_checkpoint, tiny_tokenizer

Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good checkpoint."""
    return tiny_checkpoint(tmp_path_factory.mktemp("original") / "tiny").path


@pytest.fixture
def path(original: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    return Path(shutil.copytree(original, tmp_path / "tiny"))


def _edit(path: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads((path / name).read_text())
    changed = change(values)
    (path / name).write_text(json.dumps(values if changed is None else changed))


def _seal(path: Path) -> None:
    """Make the manifest agree with the files, as one who tampers on purpose would."""

    def change(manifest: dict[str, Any]) -> None:
        manifest["files"] = {
            name: hashlib.sha256((path / name).read_bytes()).hexdigest()
            for name in manifest["files"]
        }
        manifest["digest"] = digest_of(manifest["files"])

    _edit(path, "manifest.json", change)


def _sealed(change: Change) -> Change:
    def both(path: Path) -> None:
        change(path)
        _seal(path)

    return both


def _delete(name: str) -> Change:
    return lambda path: (path / name).unlink()


def _config(**changes: Any) -> Change:
    return _sealed(lambda path: _edit(path, "config.json", lambda values: values.update(changes)))


def _manifest(**changes: Any) -> Change:
    return lambda path: _edit(path, "manifest.json", lambda values: values.update(changes))


def _text(name: str, text: str) -> Change:
    def change(path: Path) -> None:
        (path / name).write_text(text)

    return change


def _flip_a_byte(name: str) -> Change:
    def change(path: Path) -> None:
        data = bytearray((path / name).read_bytes())
        data[len(data) // 2] ^= 1
        (path / name).write_bytes(data)

    return change


def _weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Change:
    def both(path: Path) -> None:
        weights = load_file(path / "model.safetensors")
        change(weights)
        save_file(weights, path / "model.safetensors")

    return _sealed(both)


def _grow(name: str, size: int) -> Change:
    def change(path: Path) -> None:
        with (path / name).open("r+b") as file:
            file.truncate(size)  # sparse: takes no room

    return change


def _name_a_file(name: str) -> Change:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][name] = "0" * 64
        manifest["digest"] = digest_of(manifest["files"])

    return lambda path: _edit(path, "manifest.json", change)


def _unname_a_file(name: str) -> Change:
    def change(manifest: dict[str, Any]) -> None:
        del manifest["files"][name]
        manifest["digest"] = digest_of(manifest["files"])

    return lambda path: _edit(path, "manifest.json", change)


def _link_file(path: Path) -> None:
    outside = path.parent / "outside.json"
    shutil.move(path / "config.json", outside)
    (path / "config.json").symlink_to(outside)


def _link_folder(path: Path) -> None:
    outside = path.parent / "outside"
    shutil.move(path / "embedder", outside)
    (path / "embedder").symlink_to(outside)


def _surplus_link(path: Path) -> None:
    (path / "more").symlink_to(path.parent)


TAMPERING: dict[str, tuple[Change, type[CheckpointError], str]] = {
    "no weights": (
        _delete("model.safetensors"), CheckpointMissingFileError, "model.safetensors",
    ),
    "no configuration": (_delete("config.json"), CheckpointMissingFileError, "config.json"),
    "no tokenizer": (_delete("tokenizer.json"), CheckpointMissingFileError, "tokenizer.json"),
    "no manifest": (_delete("manifest.json"), CheckpointMissingFileError, "manifest.json"),
    "unnamed weights": (
        _unname_a_file("model.safetensors"), CheckpointMissingFileError, "model.safetensors",
    ),
    "surplus file": (_text("notes.txt", "x"), CheckpointFormatError, "notes.txt"),
    "surplus file in the embedder": (
        _text("embedder/x.pkl", "x"), CheckpointFormatError, "embedder/x.pkl",
    ),
    "surplus link": (_surplus_link, CheckpointFormatError, "more"),
    "changed weights": (
        _flip_a_byte("model.safetensors"), CheckpointDigestError, "model.safetensors",
    ),
    "changed tokenizer": (
        _flip_a_byte("tokenizer.json"), CheckpointDigestError, "tokenizer.json",
    ),
    "changed configuration": (
        lambda path: _edit(path, "config.json", lambda v: v.update(rope_base=5.0)),
        CheckpointDigestError, "config.json",
    ),
    "changed digest": (_manifest(digest="0" * 64), CheckpointDigestError, "manifest.json:digest"),
    "digest of another form": (
        _manifest(digest="DEADBEEF"), CheckpointFormatError, "manifest.json:files",
    ),
    "no digest": (_manifest(digest=None), CheckpointFormatError, "manifest.json:files"),
    "files that are a list": (
        _manifest(files=["config.json"]), CheckpointFormatError, "manifest.json:files",
    ),
    "scores that are a list": (
        _manifest(scores=[1]), CheckpointFormatError, "manifest.json:scores",
    ),
    "newer format": (
        _manifest(format_version=2), CheckpointFormatError, "manifest.json:format_version",
    ),
    "no format version": (
        _manifest(format_version=None), CheckpointFormatError, "manifest.json:format_version",
    ),
    "manifest that is no JSON": (
        _text("manifest.json", "{"), CheckpointFormatError, "manifest.json",
    ),
    "manifest that is no object": (
        _text("manifest.json", "[1]"), CheckpointFormatError, "manifest.json",
    ),
    "manifest nested without end": (
        _text("manifest.json", "[" * 200_000), CheckpointFormatError, "manifest.json",
    ),
    "manifest without end": (
        _grow("manifest.json", (64 << 20) + 1), CheckpointFormatError, "manifest.json",
    ),
    "configuration without end": (
        _sealed(_grow("config.json", (64 << 20) + 1)), CheckpointFormatError, "config.json",
    ),
    "linked configuration": (_link_file, CheckpointFormatError, "manifest.json:files"),
    "linked embedder": (_link_folder, CheckpointFormatError, "manifest.json:files"),
    "path out of the checkpoint": (
        _name_a_file("embedder/../../secret"), CheckpointFormatError, "manifest.json:files",
    ),
    "absolute path": (_name_a_file("/etc/passwd"), CheckpointFormatError, "manifest.json:files"),
    "path with a line break": (
        _name_a_file("a\nb"), CheckpointFormatError, "manifest.json:files",
    ),
    "named file that is not there": (
        _name_a_file("embedder/more.bin"), CheckpointMissingFileError, "embedder/more.bin",
    ),
    "unknown field": (
        _config(num_experts=8), CheckpointFormatError, "config.json:num_experts",
    ),
    "field of another type": (
        _config(num_layers="4"), CheckpointFormatError, "config.json:num_layers",
    ),
    "memory of another type": (_config(memory=[]), CheckpointFormatError, "config.json:memory"),
    "layers without end": (
        _config(num_layers=10**12), CheckpointFormatError, "config.json:num_layers",
    ),
    "number that is none": (
        _config(rope_base=float("nan")), CheckpointFormatError, "config.json:rope_base",
    ),
    "layer without weights": (
        _config(num_layers=5), CheckpointShapeError,
        "model.safetensors:blocks.4.attention.wk.weight",
    ),
    "other width": (
        _config(mlp_width=49), CheckpointShapeError, "model.safetensors:blocks.0.mlp.w1.weight",
    ),
    "missing weight": (
        _weights(lambda w: w.__delitem__("norm.weight")), CheckpointShapeError,
        "model.safetensors:norm.weight",
    ),
    "surplus weight": (
        _weights(lambda w: w.update(extra=torch.zeros(1))), CheckpointShapeError,
        "model.safetensors:extra",
    ),
    "weight of another shape": (
        _weights(lambda w: w.update({"norm.weight": torch.ones(33)})), CheckpointShapeError,
        "model.safetensors:norm.weight",
    ),
    "weight of integers": (
        _weights(lambda w: w.update({"norm.weight": torch.ones(32, dtype=torch.int32)})),
        CheckpointShapeError, "model.safetensors:norm.weight",
    ),
    "weights that are no safetensors": (
        _sealed(_text("model.safetensors", "not weights")), CheckpointFormatError,
        "model.safetensors",
    ),
    "weights cut short": (
        _sealed(_grow("model.safetensors", 1000)), CheckpointFormatError, "model.safetensors",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERING)
def test_tampering_is_refused(path: Path, how: str) -> None:
    """Each fault is a typed error that names the file and field, and says what to do."""
    change, error, field = TAMPERING[how]
    change(path)
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.open(path)
    assert type(caught.value) is error
    assert caught.value.field == field
    assert caught.value.remedy


def test_the_copy_itself_is_good(path: Path, original: Path) -> None:
    """What is refused above is refused for its fault: a copy opens, sealed again or not."""
    _seal(path)
    assert Checkpoint.open(path).digest == Checkpoint.open(original).digest


@pytest.mark.parametrize("verify", [True, False])
def test_pickled_weights_never_run(path: Path, tmp_path: Path, verify: bool) -> None:
    """A pickle under the name of the weights is refused, and its code is not run."""
    canary = tmp_path / "canary"

    class Attack:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return Path.touch, (str(canary),)

    (path / "model.safetensors").write_bytes(pickle.dumps(Attack()))
    _seal(path)
    with pytest.raises(CheckpointFormatError) as caught:
        Checkpoint.open(path, verify=verify).load_model(dtype=torch.float32)
    assert caught.value.field == "model.safetensors"
    assert not canary.exists()


def test_loading_checks_shapes_though_opening_did_not(path: Path) -> None:
    """Without verification a wrong shape is still a typed error before it is used."""
    _config(mlp_width=49)(path)
    checkpoint = Checkpoint.open(path, verify=False)
    with pytest.raises(CheckpointShapeError) as caught:
        checkpoint.load_model(dtype=torch.float32)
    assert caught.value.field == "model.safetensors:blocks.0.mlp.w1.weight"


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(path: Path) -> None:
    """Ids beyond the embeddings would be read out of bounds."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["surplus"])
    assert tokenizer.get_vocab_size() == 513
    tokenizer.save(str(path / "tokenizer.json"))
    _seal(path)
    with pytest.raises(CheckpointShapeError) as caught:
        Checkpoint.open(path).tokenizer  # noqa: B018 -- reading it is what raises
    assert caught.value.field == "config.json:vocab_size"
    assert "513" in caught.value.message


@pytest.mark.parametrize("text", ["{}", "not JSON", '{"model": {"type": "Unknown"}}'])
def test_a_tokenizer_that_cannot_be_read_is_refused(path: Path, text: str) -> None:
    """Whatever the library raises, the error is typed and names the file."""
    _sealed(_text("tokenizer.json", text))(path)
    with pytest.raises(CheckpointFormatError) as caught:
        Checkpoint.open(path).tokenizer  # noqa: B018 -- reading it is what raises
    assert caught.value.field == "tokenizer.json"


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Neither a missing path nor a file is a checkpoint."""
    (tmp_path / "file").touch()
    for name in ("nothing", "file"):
        with pytest.raises(CheckpointMissingFileError, match=name) as caught:
            Checkpoint.open(tmp_path / name)
        assert caught.value.field == "checkpoint"
