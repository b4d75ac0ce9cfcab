"""Snapshots in an object store: ``ID/SHA256.mdb`` and, written last, ``ID/manifest.json``.

Data carry their hash in their name, so a manifest never speaks of the data of another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError as ObjectExistsError
from obstore.exceptions import BaseError
from obstore.exceptions import NotFoundError as NoObjectError
from obstore.store import MemoryStore, from_url

from memory3.errors import BackendUnavailableError, InvalidArgumentError, Memory3Error
from memory3.rpc.logging import get_logger
from memory3_retriever.bank.names import is_snapshot_id
from memory3_retriever.bank.snapshot_stores import (
    BLOCK_BYTES,
    MANIFEST_FILE,
    Snapshot,
    SnapshotStore,
    damaged,
    manifest_bytes,
    missing,
    parse_manifest,
    taken,
)
from memory3_retriever.failpoints import failpoint

# Data without a manifest may be those of a snapshot that another retriever is writing.
_ORPHAN_AGE = timedelta(days=1)

_log = get_logger(__name__)


class ObjectSnapshots(SnapshotStore):
    """Snapshots behind a URL; credentials come from the cloud's own variables.

    Args:
        url: ``s3://BUCKET/PREFIX`` and the like.

    Raises:
        InvalidArgumentError: The URL or the credentials' form cannot be used.
    """

    def __init__(self, url: str) -> None:
        try:
            self._objects = MemoryStore() if url.startswith("memory://") else from_url(url)
        except (BaseError, ValueError, TypeError) as error:
            raise InvalidArgumentError(
                f"the place of snapshots cannot be used ({type(error).__name__})",
                field="snapshots",
                remedy="use s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX, and "
                "set the cloud's variables, such as AWS_REGION and AWS_ACCESS_KEY_ID",
            ) from error
        try:
            self._sweep()
        except Memory3Error as error:
            # It may be back when a snapshot is taken; banks do not wait for it.
            _log.warning("the store of snapshots was not swept", why=error.message)

    def ids(self) -> list[str]:
        """The ids of all snapshots."""
        with _typed():
            listed = obstore.list_with_delimiter(self._objects)["common_prefixes"]
        return sorted(name for name in (each.strip("/") for each in listed) if is_snapshot_id(name))

    def manifest(self, snapshot_id: str) -> Snapshot:
        """What a snapshot is."""
        try:
            with _typed():
                data = bytes(obstore.get(self._objects, f"{snapshot_id}/{MANIFEST_FILE}").bytes())
        except (FileNotFoundError, NoObjectError) as error:
            raise missing(snapshot_id) from error
        return parse_manifest(snapshot_id, data)

    def read(self, snapshot: Snapshot) -> Iterator[bytes]:
        """A snapshot's data in order."""
        try:
            with _typed():
                answer = obstore.get(self._objects, _data_name(snapshot))
                for chunk in answer.stream(min_chunk_size=BLOCK_BYTES):
                    block = bytes(chunk)
                    for start in range(0, len(block), BLOCK_BYTES):
                        yield block[start : start + BLOCK_BYTES]
        except (FileNotFoundError, NoObjectError) as error:
            raise damaged(snapshot.id, "its data are missing") from error

    def add(self, data_file: Path, snapshot: Snapshot) -> None:
        """Keep a snapshot, whole or not at all."""
        self.require_free(snapshot.id)
        manifest = f"{snapshot.id}/{MANIFEST_FILE}"
        with _typed():
            obstore.put(self._objects, _data_name(snapshot), data_file)
            try:
                obstore.put(self._objects, manifest, manifest_bytes(snapshot), mode="create")
            except ObjectExistsError as error:
                raise taken(snapshot.id) from error

    def replace(self, data_file: Path, snapshot: Snapshot) -> None:
        """Put another snapshot in place of the one of that id."""
        manifest = f"{snapshot.id}/{MANIFEST_FILE}"
        kept = {manifest, _data_name(snapshot)}
        with _typed():
            obstore.put(self._objects, _data_name(snapshot), data_file)
            failpoint("snapshot.replacing")
            obstore.put(self._objects, manifest, manifest_bytes(snapshot))
            failpoint("snapshot.replaced")
        self._remove([path for path, _ in self._of(snapshot.id) if path not in kept])

    def delete(self, snapshot_id: str) -> bool:
        """Remove a snapshot; whether there was one."""
        paths = [path for path, _ in self._of(snapshot_id)]
        manifest = f"{snapshot_id}/{MANIFEST_FILE}"
        # The manifest first: without it, what is left is no snapshot.
        self._remove([path for path in paths if path == manifest])
        self._remove([path for path in paths if path != manifest])
        return manifest in paths

    def _sweep(self) -> None:
        before = datetime.now(UTC) - _ORPHAN_AGE
        for snapshot_id in self.ids():
            objects = self._of(snapshot_id)
            if all(not path.endswith(MANIFEST_FILE) for path, _ in objects):
                self._remove([path for path, changed in objects if changed < before])

    def _of(self, snapshot_id: str) -> list[tuple[str, datetime]]:
        with _typed():
            listed = obstore.list(self._objects, prefix=snapshot_id)
            return [
                (each["path"], each["last_modified"])
                for block in listed
                for each in block
                if each["path"].startswith(f"{snapshot_id}/")
            ]

    def _remove(self, paths: list[str]) -> None:
        if paths:
            with _typed():
                obstore.delete(self._objects, paths)


def _data_name(snapshot: Snapshot) -> str:
    return f"{snapshot.id}/{snapshot.sha256}.mdb"


@contextmanager
def _typed() -> Iterator[None]:
    """An object store's faults as typed errors; a missing object stays what it is."""
    try:
        yield
    except (FileNotFoundError, NoObjectError):
        raise
    except BaseError as error:
        # The class alone: messages may repeat URLs with credentials.
        raise BackendUnavailableError(
            f"the store of snapshots failed ({type(error).__name__})",
            field="snapshot",
            remedy="look at its address, credentials and the service's log, then try again",
        ) from error
