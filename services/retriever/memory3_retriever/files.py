"""Putting files in place so that a crash at any moment leaves all of them or none.

Write under a temporary name, sync, rename, sync the folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memory3.errors import FailedPreconditionError
from memory3_retriever.failpoints import failpoint

TEMPORARY_PREFIX = ".tmp-"

_BLOCK_BYTES = 1 << 20


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """An empty folder beside the final one; whatever is left of it at the end is removed."""
    folder = parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch_folder(parent: Path | None) -> Iterator[Path]:
    """An empty folder that is removed again: in ``parent``, made if need be, or the system's."""
    if parent is None:
        with tempfile.TemporaryDirectory(prefix="memory3-") as name:
            yield Path(name)
        return
    parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(parent) as folder:
        yield folder


def publish(folder: Path, final: Path) -> None:
    """Give a finished folder its name, durably.

    Raises:
        FileExistsError: The name is taken.
        OSError: The disk failed.
    """
    failpoint(f"{final.parent.name}.before-sync")
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)
    if final.exists() or final.is_symlink():
        raise FileExistsError(final)
    failpoint(f"{final.parent.name}.before-rename")
    os.rename(folder, final)
    failpoint(f"{final.parent.name}.after-rename")
    sync(final.parent)


def discard(folder: Path) -> None:
    """Remove a folder so that it is either whole or gone, durably."""
    doomed = folder.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    os.rename(folder, doomed)
    sync(folder.parent)
    shutil.rmtree(doomed)


def sweep(parent: Path) -> None:
    """Remove what a process that was killed left behind."""
    for leftover in parent.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def lock_folder(folder: Path) -> int:
    """Have a folder for this process alone; returns the handle that keeps it so.

    Raises:
        FailedPreconditionError: Another process has it.
    """
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise FailedPreconditionError(
            "another retriever uses the data folder",
            field="data",
            remedy="stop it, or give this one a folder of its own",
        ) from error
    return handle


def sync(path: Path) -> None:
    """Write a file's or folder's contents through to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> tuple[str, int]:
    """The sha256 of a file, hexadecimal, and its size in bytes."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size


def copy_hashed(source: Path, target: Path) -> tuple[str, int]:
    """Copy a plain file; returns the sha256 and the size of the very bytes that were copied.

    Raises:
        OSError: The source is a link or not a plain file, or the disk failed.
    """
    digest, size = hashlib.sha256(), 0
    handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(handle, "rb") as reader, target.open("xb") as writer:
        while block := reader.read(_BLOCK_BYTES):
            digest.update(block)
            writer.write(block)
            size += len(block)
    return digest.hexdigest(), size
