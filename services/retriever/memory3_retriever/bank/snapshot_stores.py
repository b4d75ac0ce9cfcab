"""Where snapshots are kept: what any place of them does, and the place that is a folder.

A snapshot is its data and a manifest with their hash; it is there once its manifest is. It must not
know what the data hold.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crc32c import crc32c

from memory3.errors import AlreadyExistsError, CorruptDataError, Memory3Error, NotFoundError
from memory3_retriever.bank.faults import typed_faults
from memory3_retriever.bank.names import is_bank_id, is_snapshot_id
from memory3_retriever.failpoints import failpoint
from memory3_retriever.files import discard, publish, sweep, sync, temporary_folder

DATA_FILE = "data.mdb"
MANIFEST_FILE = "manifest.json"
BLOCK_BYTES = 512 << 10
_FORMAT = "memory3-bank-snapshot-1"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot's manifest says.

    Attributes:
        id: Its id.
        bank: The id of its bank.
        revision: The bank's revision in it.
        sha256: The hash of the data, hexadecimal.
        size_bytes: Their size.
        checkpoint_digest: The checkpoint that the bank belongs to.
        create_time_ns: When it was taken; 0 in snapshots from before.
    """

    id: str
    bank: str
    revision: int
    sha256: str
    size_bytes: int
    checkpoint_digest: str
    create_time_ns: int = 0


class SnapshotStore(ABC):
    """A place of snapshots. Ids were checked before they come here."""

    @abstractmethod
    def ids(self) -> list[str]:
        """The ids of all snapshots."""

    @abstractmethod
    def manifest(self, snapshot_id: str) -> Snapshot:
        """What a snapshot is.

        Raises:
            NotFoundError: There is no such snapshot.
            CorruptDataError: Its manifest cannot be read.
        """

    @abstractmethod
    def read(self, snapshot: Snapshot) -> Iterator[bytes]:
        """A snapshot's data in order, at most ``BLOCK_BYTES`` at a time, unverified.

        Raises:
            CorruptDataError: They are missing, or not a plain file.
        """

    @abstractmethod
    def add(self, data_file: Path, snapshot: Snapshot) -> None:
        """Keep a snapshot, whole or not at all.

        Raises:
            AlreadyExistsError: There is one of that id.
        """

    @abstractmethod
    def replace(self, data_file: Path, snapshot: Snapshot) -> None:
        """Put another snapshot in place of the one of that id; nothing of that one stays.

        Broken off at any moment, one of the two is there whole; called again, nothing is left over.
        """

    @abstractmethod
    def delete(self, snapshot_id: str) -> bool:
        """Remove a snapshot; whether there was one."""

    def all(self) -> list[Snapshot]:
        """What all snapshots are that can be read, newest first."""
        found = []
        for snapshot_id in self.ids():
            try:
                found.append(self.manifest(snapshot_id))
            except (NotFoundError, CorruptDataError):
                continue
        return sorted(found, key=lambda each: (-each.create_time_ns, each.id))

    def require_free(self, snapshot_id: str) -> None:
        """Refuse an id that is taken.

        Raises:
            AlreadyExistsError: It is.
        """
        try:
            self.manifest(snapshot_id)
        except NotFoundError:
            return
        except CorruptDataError:
            pass
        raise taken(snapshot_id)


class FolderSnapshots(SnapshotStore):
    """Snapshots as folders ``ID`` with two files; links are never followed.

    Of a snapshot that was replaced the data are called ``SHA256.mdb``: so the manifest, which is
    put in place at once, decides which data are meant.

    Args:
        folder: Where they are; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with typed_faults("the folder of snapshots"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sweep(folder)

    def ids(self) -> list[str]:
        """The ids of all snapshots."""
        with typed_faults("the folder of snapshots"), os.scandir(self._folder) as entries:
            return sorted(
                entry.name
                for entry in entries
                if is_snapshot_id(entry.name) and entry.is_dir(follow_symlinks=False)
            )

    def manifest(self, snapshot_id: str) -> Snapshot:
        """What a snapshot is."""
        path = self._folder / snapshot_id
        if path.is_symlink() or not path.is_dir():
            raise missing(snapshot_id)
        try:
            handle = os.open(path / MANIFEST_FILE, os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(handle, "rb") as file:
                return parse_manifest(snapshot_id, file.read())
        except OSError as error:
            raise damaged(snapshot_id, "its manifest cannot be read") from error

    def read(self, snapshot: Snapshot) -> Iterator[bytes]:
        """A snapshot's data in order."""
        path = self._folder / snapshot.id
        try:
            if path.is_symlink():
                raise damaged(snapshot.id, "it is a link")
            data = path / _replaced_name(snapshot)
            if not data.exists():
                data = path / DATA_FILE
            handle = os.open(data, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as error:
            raise damaged(snapshot.id, "its data file is missing, or is not a file") from error
        with os.fdopen(handle, "rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block

    def add(self, data_file: Path, snapshot: Snapshot) -> None:
        """Keep a snapshot, whole or not at all."""
        with typed_faults("the folder of snapshots"), temporary_folder(self._folder) as work:
            self._fill(work, data_file, snapshot)
            try:
                publish(work, self._folder / snapshot.id)
            except FileExistsError as error:
                raise taken(snapshot.id) from error

    def replace(self, data_file: Path, snapshot: Snapshot) -> None:
        """Put another snapshot in place of the one of that id."""
        folder, data = self._folder / snapshot.id, _replaced_name(snapshot)
        with typed_faults("the folder of snapshots"), temporary_folder(self._folder) as work:
            self._fill(work, data_file, snapshot)
            for path in work.iterdir():
                sync(path)
            os.replace(work / DATA_FILE, folder / data)
            sync(folder)
            failpoint("snapshot.replacing")
            os.replace(work / MANIFEST_FILE, folder / MANIFEST_FILE)
            sync(folder)
            failpoint("snapshot.replaced")
            for path in folder.iterdir():
                if path.name not in (data, MANIFEST_FILE):
                    path.unlink()
            sync(folder)

    def delete(self, snapshot_id: str) -> bool:
        """Remove a snapshot; whether there was one."""
        path = self._folder / snapshot_id
        if path.is_symlink() or not path.is_dir():
            return False
        with typed_faults("the folder of snapshots"):
            discard(path)
        return True

    def _fill(self, work: Path, data_file: Path, snapshot: Snapshot) -> None:
        # Moved where the place is on the same disk, copied otherwise.
        shutil.move(data_file, work / DATA_FILE)
        (work / MANIFEST_FILE).write_bytes(manifest_bytes(snapshot))


def _replaced_name(snapshot: Snapshot) -> str:
    return f"{snapshot.sha256}.mdb"


def manifest_bytes(snapshot: Snapshot) -> bytes:
    """A manifest as it is written."""
    manifest = {"format": _FORMAT, **dataclasses.asdict(snapshot)}
    manifest["crc32c"] = _checksum(manifest)
    return json.dumps(manifest, indent=2).encode() + b"\n"


def parse_manifest(snapshot_id: str, data: bytes) -> Snapshot:
    """The manifest of a snapshot.

    Raises:
        CorruptDataError: It is not one, or is another snapshot's.
    """
    try:
        manifest = json.loads(data)
        # Snapshots from before have none.
        if "crc32c" in manifest and manifest.pop("crc32c") != _checksum(manifest):
            raise ValueError("its checksum is wrong")
        if manifest.pop("format") != _FORMAT:
            raise ValueError("another format")
        snapshot = Snapshot(**manifest)
        for field in dataclasses.fields(Snapshot):
            if type(getattr(snapshot, field.name)).__name__ != field.type:
                raise ValueError(f"{field.name} is not {field.type}")
        if not is_bank_id(snapshot.bank) or not is_snapshot_id(snapshot.id):
            raise ValueError("a name that is none")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise damaged(snapshot_id, "its manifest cannot be read") from error
    # A folder that was renamed is restored under the name that it has.
    return dataclasses.replace(snapshot, id=snapshot_id)


def _checksum(manifest: dict[str, Any]) -> int:
    return int(crc32c(json.dumps(manifest, sort_keys=True).encode()))


def missing(snapshot_id: str) -> NotFoundError:
    """The error for a snapshot that is not there."""
    return NotFoundError(
        f"there is no snapshot {snapshot_id}",
        field="snapshot",
        remedy="list the snapshots, or use the id that SnapshotBank gave",
        metadata={"resource": snapshot_id},
    )


def taken(snapshot_id: str) -> AlreadyExistsError:
    """The error for an id that is taken."""
    return AlreadyExistsError(
        f"there is a snapshot {snapshot_id} already",
        field="snapshot",
        remedy="choose another id",
        metadata={"resource": snapshot_id},
    )


def damaged(snapshot_id: str, why: str) -> Memory3Error:
    """The error for a snapshot that is not what it was."""
    return CorruptDataError(
        f"snapshot {snapshot_id} is damaged: {why}",
        field="snapshot",
        remedy="restore another snapshot",
        metadata={"resource": snapshot_id},
    )
