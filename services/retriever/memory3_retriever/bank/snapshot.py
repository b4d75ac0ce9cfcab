"""Snapshots: a compacted copy of a bank with a manifest of hashes, and the way back.

Nothing of a snapshot reaches LMDB before its hash is known to be right. It must not know where
snapshots are kept, nor indexes: they are derived again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from memory3.errors import (
    AlreadyExistsError,
    CheckpointMismatchError,
    CorruptDataError,
)
from memory3_retriever.bank.environment import DATA_FILE
from memory3_retriever.bank.faults import typed_faults
from memory3_retriever.bank.snapshot_stores import (
    MANIFEST_FILE,
    Snapshot,
    SnapshotStore,
    damaged,
)
from memory3_retriever.bank.store import BankStore
from memory3_retriever.bank.verify import Problem
from memory3_retriever.failpoints import failpoint
from memory3_retriever.files import publish, sha256_of, temporary_folder

__all__ = [
    "MANIFEST_FILE",
    "Snapshot",
    "check_snapshot",
    "fetch",
    "restore_snapshot",
    "rewrite_snapshot",
    "write_snapshot",
]

_ANY_BYTES = 1 << 46


def write_snapshot(
    store: BankStore, snapshots: SnapshotStore, snapshot_id: str, staging: Path
) -> Snapshot:
    """Copy a bank while it is in use.

    Args:
        store: The open bank.
        snapshots: Where snapshots are.
        snapshot_id: The new snapshot's id, checked; empty for one of the bank's name and revision.
        staging: A folder for the copy until it is kept.

    Raises:
        AlreadyExistsError: There is a snapshot of that id.
        StorageFullError: There is no room; nothing is left behind.
    """
    if snapshot_id:
        snapshots.require_free(snapshot_id)
    with (
        typed_faults(f"snapshot of {store.environment.resource}"),
        temporary_folder(staging) as work,
    ):
        revision = copy_store(store, work)
        sha256, size = sha256_of(work / DATA_FILE)
        snapshot = Snapshot(
            id=snapshot_id or f"{store.info.name[:40]}-{revision}",
            bank=store.info.name,
            revision=revision,
            sha256=sha256,
            size_bytes=size,
            checkpoint_digest=store.info.checkpoint_digest,
            create_time_ns=time.time_ns(),
        )
        snapshots.add(work / DATA_FILE, snapshot)
    return snapshot


def copy_store(store: BankStore, folder: Path) -> int:
    """Copy a bank's data file, compacted, into an empty folder while the bank is in use.

    Returns:
        The revision of the copy itself: writes may have gone on since it was begun.
    """
    store.environment.copy(folder)
    copy = BankStore(folder, store.info.name, map_bytes=0, max_map_bytes=_ANY_BYTES, trusted=True)
    try:
        return copy.counters().revision
    finally:
        copy.close()
        (folder / "lock.mdb").unlink(missing_ok=True)


def restore_snapshot(
    snapshots: SnapshotStore,
    snapshot_id: str,
    target: Path,
    *,
    checkpoint_digest: str,
    max_bank_bytes: int,
) -> None:
    """Make a bank's folder of a snapshot.

    Args:
        snapshots: Where snapshots are.
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
    manifest = snapshots.manifest(snapshot_id)
    _check_digest(snapshot_id, manifest.checkpoint_digest, checkpoint_digest)
    resource = f"snapshot {snapshot_id}"
    with typed_faults(resource), temporary_folder(target.parent) as work:
        fetch(snapshots, manifest, work / DATA_FILE)
        failpoint("restore.copied")
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


def fetch(snapshots: SnapshotStore, manifest: Snapshot, target: Path) -> None:
    """Read a snapshot's data into a new file.

    Raises:
        CorruptDataError: They are not what the manifest was written for.
    """
    digest, size = hashlib.sha256(), 0
    with target.open("xb") as file:
        for block in snapshots.read(manifest):
            digest.update(block)
            size += len(block)
            file.write(block)
    if (digest.hexdigest(), size) != (manifest.sha256, manifest.size_bytes):
        raise damaged(manifest.id, "its data file does not have the manifest's hash")


def check_snapshot(snapshots: SnapshotStore, manifest: Snapshot) -> list[Problem]:
    """Read a snapshot and compare it with its hashes; empty means that it is sound."""
    digest, size = hashlib.sha256(), 0
    try:
        for block in snapshots.read(manifest):
            digest.update(block)
            size += len(block)
    except CorruptDataError as error:
        return [Problem("", "SNAPSHOT_DATA_MISSING", error.message)]
    problems = []
    if size != manifest.size_bytes:
        problems.append(
            Problem(
                "", "SNAPSHOT_SIZE",
                f"{size} bytes are there, {manifest.size_bytes} were written; use another snapshot",
            )
        )  # fmt: skip
    elif digest.hexdigest() != manifest.sha256:
        problems.append(
            Problem("", "SNAPSHOT_CHECKSUM", "its data were changed; use another snapshot")
        )
    return problems


def rewrite_snapshot(
    snapshots: SnapshotStore,
    manifest: Snapshot,
    erase: Callable[[BankStore], None],
    staging: Path,
) -> Snapshot:
    """Put in place of a snapshot one from which something is erased, byte for byte.

    Args:
        snapshots: Where snapshots are.
        manifest: The snapshot.
        erase: Changes the bank in it.
        staging: A folder for the copy.

    Raises:
        CorruptDataError: The snapshot is damaged; it was not touched.
    """
    with typed_faults(f"snapshot {manifest.id}"), temporary_folder(staging) as outer:
        # The rewritten file is staged beside the environment, so inside the same folder.
        work = outer / "bank"
        work.mkdir()
        fetch(snapshots, manifest, work / DATA_FILE)
        store = BankStore(work, manifest.bank, map_bytes=0, max_map_bytes=_ANY_BYTES)
        try:
            erase(store)
            store.environment.rewrite()
            revision = store.counters().revision
        finally:
            store.close()
        sha256, size = sha256_of(work / DATA_FILE)
        fresh = dataclasses.replace(manifest, revision=revision, sha256=sha256, size_bytes=size)
        snapshots.replace(work / DATA_FILE, fresh)
    return fresh


def _rename_inside(
    work: Path, name: str, manifest: Snapshot, checkpoint_digest: str, max_bank_bytes: int
) -> None:
    store = BankStore(work, name, map_bytes=0, max_map_bytes=max_bank_bytes)
    try:
        _check_digest(manifest.id, store.info.checkpoint_digest, checkpoint_digest)
        if store.counters().revision != manifest.revision:
            raise damaged(manifest.id, "its data file has another revision than its manifest")
        store.rename(dataclasses.replace(store.info, name=name, uid=uuid.uuid4().hex))
    finally:
        store.close()


def _check_digest(snapshot_id: str, actual: str, expected: str) -> None:
    if actual != expected:
        raise CheckpointMismatchError(
            f"snapshot {snapshot_id} belongs to another checkpoint",
            field="checkpoint_digest",
            remedy="restore it where its own checkpoint is loaded",
            expected=expected,
            actual=actual,
        )
