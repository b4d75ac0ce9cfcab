"""A place of snapshots by its name: a folder, or an object store by its URL."""

from __future__ import annotations

from pathlib import Path

from memory3.errors import InvalidArgumentError
from memory3_retriever.bank.snapshot_stores import FolderSnapshots, SnapshotStore

_SCHEMES = ("s3", "gs", "az", "memory")


def open_snapshots(place: str) -> SnapshotStore:
    """The place that a setting names.

    Args:
        place: A folder's path, ``file:///PATH``, or ``s3://``, ``gs://``, ``az://``,
            ``memory://`` (lost at the end of the process).

    Raises:
        InvalidArgumentError: It is not of that form.
        BackendUnavailableError: The folder cannot be used.
    """
    scheme, separator, rest = place.partition("://")
    if not separator:
        return FolderSnapshots(Path(place))
    if scheme == "file" and rest.startswith("/"):
        return FolderSnapshots(Path(rest))
    if scheme not in _SCHEMES:
        raise InvalidArgumentError(
            f"{scheme!r} is no place of snapshots",
            field="snapshots",
            remedy="use a folder, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX",
        )
    # Late, so that nobody loads clients of object stores who does not use one.
    from memory3_retriever.bank.snapshot_objects import ObjectSnapshots

    return ObjectSnapshots(place)
