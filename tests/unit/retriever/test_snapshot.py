"""Snapshots and the way back: whole, of the right checkpoint, and never out of their folder."""

import json
import os
import threading
from pathlib import Path

import pytest
from memory3_retriever.bank.environment import DATA_FILE
from memory3_retriever.bank.snapshot import (
    MANIFEST_FILE,
    Snapshot,
    restore_snapshot,
    write_snapshot,
)
from memory3_retriever.bank.snapshot_stores import FolderSnapshots
from memory3_retriever.bank.store import BankStore
from memory3_retriever.bank.verify import verify_bank
from memory3_retriever.files import sha256_of

from memory3.errors import (
    AlreadyExistsError,
    CheckpointMismatchError,
    CorruptDataError,
    NotFoundError,
)
from tests.unit.retriever.banks import DIGEST, items, new_store, open_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where snapshots are."""
    path = tmp_path / "snapshots"
    path.mkdir()
    return path


def take(store: BankStore, folder: Path, snapshot_id: str) -> Snapshot:
    """Take a snapshot into a folder."""
    return write_snapshot(store, FolderSnapshots(folder), snapshot_id, folder)


def restore(folder: Path, snapshot: str, target: Path, digest: str = DIGEST) -> None:
    """Restore with the tests' own limits."""
    restore_snapshot(
        FolderSnapshots(folder),
        snapshot,
        target,
        checkpoint_digest=digest,
        max_bank_bytes=1 << 30,
    )


def taken(tmp_path: Path, folder: Path) -> Snapshot:
    """A snapshot of a bank with ten references."""
    store = new_store(tmp_path / "original")
    store.put(items(10, "source"))
    snapshot = take(store, folder, "first")
    store.close()
    return snapshot


def test_a_restored_bank_holds_the_same(tmp_path: Path, folder: Path) -> None:
    """Every record comes back; the bank has its own name and its own place in caches."""
    snapshot = taken(tmp_path, folder)
    assert (snapshot.bank, snapshot.revision, snapshot.checkpoint_digest) == ("docs", 1, DIGEST)
    assert (snapshot.sha256, snapshot.size_bytes) == sha256_of(folder / "first" / DATA_FILE)
    restore(folder, "first", tmp_path / "copy")
    original, copy = open_store(tmp_path / "original"), open_store(tmp_path / "copy")
    assert copy.info.name == "copy"
    assert copy.info.uid != original.info.uid
    assert copy.statistics() == original.statistics()
    assert copy.page(b"", 100) == original.page(b"", 100)
    keys = sorted(original.vector_keys())
    assert copy.memories(keys) == original.memories(keys)
    assert copy.vectors(keys).tolist() == original.vectors(keys).tolist()
    assert verify_bank(copy).problems == []
    original.close()
    copy.close()


def test_a_snapshot_is_consistent_while_writes_go_on(tmp_path: Path, folder: Path) -> None:
    """Its revision is the one of its own data, and the bank in it is sound."""
    store = new_store(tmp_path / "original", map_bytes=64 << 20)
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            store.put(items(5, f"s{number}", start=number * 5))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    for number in range(4):
        snapshot = take(store, folder, f"s{number}")
        restore(folder, f"s{number}", tmp_path / f"copy-{number}")
        copy = open_store(tmp_path / f"copy-{number}")
        statistics = copy.statistics()
        assert statistics.revision == snapshot.revision
        assert statistics.num_references == 5 * snapshot.revision
        assert verify_bank(copy).problems == []
        copy.close()
    done.set()
    writer.join()
    store.close()


def test_an_id_is_made_of_name_and_revision(tmp_path: Path, folder: Path) -> None:
    """Where the caller gives none; the same one a second time is refused."""
    store = new_store(tmp_path / "original")
    store.put(items(1))
    assert take(store, folder, "").id == "docs-1"
    with pytest.raises(AlreadyExistsError) as raised:
        take(store, folder, "")
    assert raised.value.field == "snapshot"
    with pytest.raises(AlreadyExistsError):
        take(store, folder, "docs-1")
    assert sorted(path.name for path in folder.iterdir()) == ["docs-1"]
    store.close()


def test_another_checkpoint_is_refused(tmp_path: Path, folder: Path) -> None:
    """A snapshot of a bank of another checkpoint never becomes a bank here."""
    taken(tmp_path, folder)
    with pytest.raises(CheckpointMismatchError) as raised:
        restore(folder, "first", tmp_path / "copy", digest="f" * 64)
    assert raised.value.field == "checkpoint_digest"
    assert (raised.value.expected, raised.value.actual) == ("f" * 64, DIGEST)
    assert not (tmp_path / "copy").exists()


def test_a_lying_manifest_does_not_bring_in_another_checkpoint(
    tmp_path: Path, folder: Path
) -> None:
    """The bank's own description counts, not only what stands beside it."""
    taken(tmp_path, folder)
    manifest = folder / "first" / MANIFEST_FILE
    told = json.loads(manifest.read_text().replace(DIGEST, "f" * 64))
    manifest.write_text(json.dumps(told))
    with pytest.raises(CorruptDataError):
        restore(folder, "first", tmp_path / "copy", digest="f" * 64)
    del told["crc32c"]  # as manifests were before they had one
    manifest.write_text(json.dumps(told))
    with pytest.raises(CheckpointMismatchError):
        restore(folder, "first", tmp_path / "copy", digest="f" * 64)
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("place", [0.0, 0.1, 0.5, 0.9, 0.9999])
def test_a_flipped_bit_is_noticed(tmp_path: Path, folder: Path, place: float) -> None:
    """Wherever it is, before any of it reaches the database library."""
    taken(tmp_path, folder)
    data = folder / "first" / DATA_FILE
    content = bytearray(data.read_bytes())
    content[int(place * len(content))] ^= 1
    data.write_bytes(content)
    with pytest.raises(CorruptDataError, match="hash"):
        restore(folder, "first", tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["original", "snapshots"]


def test_a_cut_or_missing_data_file_is_noticed(tmp_path: Path, folder: Path) -> None:
    """Half a file, or none."""
    taken(tmp_path, folder)
    data = folder / "first" / DATA_FILE
    os.truncate(data, data.stat().st_size // 2)
    with pytest.raises(CorruptDataError):
        restore(folder, "first", tmp_path / "copy")
    data.unlink()
    with pytest.raises(CorruptDataError, match="missing"):
        restore(folder, "first", tmp_path / "copy")


@pytest.mark.parametrize(
    "change",
    [
        {"format": "another"},
        {"size_bytes": "10"},
        {"revision": None},
        {"surplus": 1},
        {"sha256": 5},
    ],
)
def test_a_manifest_of_another_form_is_refused(
    tmp_path: Path, folder: Path, change: dict[str, object]
) -> None:
    """Other formats, other types, other fields."""
    taken(tmp_path, folder)
    path = folder / "first" / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CorruptDataError, match="manifest"):
        restore(folder, "first", tmp_path / "copy")


@pytest.mark.parametrize("content", ["", "[]", "null", "{", "\x00\xff"])
def test_a_manifest_that_is_not_json_is_refused(tmp_path: Path, folder: Path, content: str) -> None:
    """Whatever it is instead."""
    taken(tmp_path, folder)
    (folder / "first" / MANIFEST_FILE).write_text(content)
    with pytest.raises(CorruptDataError, match="manifest"):
        restore(folder, "first", tmp_path / "copy")


def test_links_are_not_followed(tmp_path: Path, folder: Path) -> None:
    """Neither a snapshot nor its data may be a link to somewhere else."""
    taken(tmp_path, folder)
    (folder / "linked").symlink_to(folder / "first")
    with pytest.raises(NotFoundError):
        restore(folder, "linked", tmp_path / "copy")
    data = folder / "first" / DATA_FILE
    data.rename(tmp_path / "elsewhere")
    data.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptDataError, match="is not a file") as raised:
        restore(folder, "first", tmp_path / "copy")
    assert "elsewhere" not in str(raised.value)
    assert not (tmp_path / "copy").exists()


def test_an_unknown_snapshot_is_not_found(tmp_path: Path, folder: Path) -> None:
    """The error names it."""
    with pytest.raises(NotFoundError, match="nothing") as raised:
        restore(folder, "nothing", tmp_path / "copy")
    assert raised.value.field == "snapshot"


def test_an_existing_bank_is_not_overwritten(tmp_path: Path, folder: Path) -> None:
    """Restoring needs a name that is free."""
    taken(tmp_path, folder)
    before = sha256_of(tmp_path / "original" / DATA_FILE)
    with pytest.raises(AlreadyExistsError):
        restore(folder, "first", tmp_path / "original")
    assert sha256_of(tmp_path / "original" / DATA_FILE) == before
