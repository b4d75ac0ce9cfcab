"""Snapshots: a compacted copy of a bank with a manifest of hashes, and the way back.

A snapshot is a folder with ``data.mdb`` and ``manifest.json``. Nothing of it reaches LMDB before
its hash is known to be right. It must not know indexes: they are derived again.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crc32c import crc32c

from memory3.errors import (
    AlreadyExistsError,
    CheckpointMismatchError,
    CorruptDataError,
    NotFoundError,
)
from memory3_retriever.bank.environment import DATA_FILE
from memory3_retriever.bank.faults import typed_faults
from memory3_retriever.bank.store import BankStore
from memory3_retriever.failpoints import failpoint
from memory3_retriever.files import copy_hashed, publish, sha256_of, temporary_folder

MANIFEST_FILE = "manifest.json"
_FORMAT = "memory3-bank-snapshot-1"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot's manifest says: id, bank (its id), revision, hash, size and checkpoint."""

    id: str
    bank: str
    revision: int
    sha256: str
    size_bytes: int
    checkpoint_digest: str


def write_snapshot(store: BankStore, folder: Path, snapshot_id: str) -> Snapshot:
    """Copy a bank while it is in use.

    Args:
        store: The open bank.
        folder: Where snapshots are.
        snapshot_id: The new snapshot's id, checked; empty for one of the bank's name and revision.

    Raises:
        AlreadyExistsError: There is a snapshot of that id.
        StorageFullError: There is no room; nothing is left behind.
    """
    if snapshot_id:
        _refuse_existing(folder / snapshot_id, snapshot_id)
    with (
        typed_faults(f"snapshot of {store.environment.resource}"),
        temporary_folder(folder) as work,
    ):
        store.environment.copy(work)
        revision = _revision_of(work, store)
        sha256, size = sha256_of(work / DATA_FILE)
        name = snapshot_id or f"{store.info.name[:40]}-{revision}"
        snapshot = Snapshot(
            name, store.info.name, revision, sha256, size, store.info.checkpoint_digest
        )
        manifest = {"format": _FORMAT, **dataclasses.asdict(snapshot)}
        manifest["crc32c"] = _checksum(manifest)
        (work / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n")
        try:
            publish(work, folder / name)
        except FileExistsError:
            _refuse_existing(folder / name, name)
            raise
    return snapshot


def read_manifest(folder: Path, snapshot_id: str) -> Snapshot:
    """The manifest of a snapshot.

    Raises:
        NotFoundError: There is no such snapshot.
        CorruptDataError: The manifest is not one.
    """
    path = folder / snapshot_id
    if path.is_symlink() or not path.is_dir():
        raise NotFoundError(
            f"there is no snapshot {snapshot_id}",
            field="snapshot",
            remedy="use the id that SnapshotBank gave",
            metadata={"resource": snapshot_id},
        )
    try:
        manifest = json.loads((path / MANIFEST_FILE).read_text())
        # Snapshots from before have none.
        if "crc32c" in manifest and manifest.pop("crc32c") != _checksum(manifest):
            raise ValueError("its checksum is wrong")
        if manifest.pop("format") != _FORMAT:
            raise ValueError("another format")
        snapshot = Snapshot(**manifest)
        types = {field.name: field.type for field in dataclasses.fields(Snapshot)}
        for name, kind in types.items():
            if type(getattr(snapshot, name)).__name__ != kind:
                raise ValueError(f"{name} is not {kind}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(snapshot_id, "its manifest cannot be read") from error
    return snapshot


def restore_snapshot(
    folder: Path,
    snapshot_id: str,
    target: Path,
    *,
    checkpoint_digest: str,
    max_bank_bytes: int,
) -> None:
    """Make a bank's folder of a snapshot.

    Args:
        folder: Where snapshots are.
        snapshot_id: The snapshot's id, checked.
        target: The bank's folder to be; its name becomes the bank's.
        checkpoint_digest: The checkpoint that the snapshot must belong to.
        max_bank_bytes: The largest map of a bank.

    Raises:
        NotFoundError: There is no such snapshot.
        AlreadyExistsError: There is a bank of that name.
        CorruptDataError: The data is not what the manifest was written for.
        CheckpointMismatchError: The snapshot belongs to another checkpoint.
        StorageFullError: There is no room; nothing is left behind.
    """
    manifest = read_manifest(folder, snapshot_id)
    _check_digest(snapshot_id, manifest.checkpoint_digest, checkpoint_digest)
    resource = f"snapshot {snapshot_id}"
    with typed_faults(resource), temporary_folder(target.parent) as work:
        try:
            sha256, size = copy_hashed(folder / snapshot_id / DATA_FILE, work / DATA_FILE)
        except FileNotFoundError as error:
            raise _damaged(snapshot_id, "its data file is missing") from error
        failpoint("restore.copied")
        if (sha256, size) != (manifest.sha256, manifest.size_bytes):
            raise _damaged(snapshot_id, "its data file does not have the manifest's hash")
        _rename_inside(work, target.name, manifest, checkpoint_digest, max_bank_bytes)
        try:
            publish(work, target)
        except FileExistsError as error:
            raise AlreadyExistsError(
                f"there is a bank {target.name} already",
                field="name",
                remedy="restore under another name, or delete that bank first",
                metadata={"resource": target.name},
            ) from error


def _checksum(manifest: dict[str, Any]) -> int:
    return int(crc32c(json.dumps(manifest, sort_keys=True).encode()))


def _rename_inside(
    work: Path, name: str, manifest: Snapshot, checkpoint_digest: str, max_bank_bytes: int
) -> None:
    store = BankStore(work, name, map_bytes=0, max_map_bytes=max_bank_bytes)
    try:
        _check_digest(manifest.id, store.info.checkpoint_digest, checkpoint_digest)
        if store.counters().revision != manifest.revision:
            raise _damaged(manifest.id, "its data file has another revision than its manifest")
        store.rename(dataclasses.replace(store.info, name=name, uid=uuid.uuid4().hex))
    finally:
        store.close()


def _revision_of(work: Path, original: BankStore) -> int:
    """The revision of the copy itself: writes may have gone on since it was begun."""
    copy = BankStore(work, original.info.name, map_bytes=0, max_map_bytes=1 << 46)
    try:
        return copy.counters().revision
    finally:
        copy.close()
        (work / "lock.mdb").unlink(missing_ok=True)


def _check_digest(snapshot_id: str, actual: str, expected: str) -> None:
    if actual != expected:
        raise CheckpointMismatchError(
            f"snapshot {snapshot_id} belongs to another checkpoint",
            field="checkpoint_digest",
            remedy="restore it where its own checkpoint is loaded",
            expected=expected,
            actual=actual,
        )


def _refuse_existing(path: Path, snapshot_id: str) -> None:
    if path.exists() or path.is_symlink():
        raise AlreadyExistsError(
            f"there is a snapshot {snapshot_id} already",
            field="snapshot",
            remedy="choose another id",
            metadata={"resource": snapshot_id},
        )


def _damaged(snapshot_id: str, why: str) -> CorruptDataError:
    return CorruptDataError(
        f"snapshot {snapshot_id} is damaged: {why}",
        field="snapshot",
        remedy="restore another snapshot",
        metadata={"resource": snapshot_id},
    )
