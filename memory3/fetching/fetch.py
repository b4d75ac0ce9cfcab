"""A checkpoint by its digest: the manifest first, then every file, verified before it has a name.

The digest is all that is trusted. It covers the manifest's list of files, and that each file's
bytes; whatever the place hands out that differs is refused, and nothing stands at the target
before all of it is right. It must not know how a place is reached.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memory3.errors import (
    CheckpointDigestError,
    CheckpointError,
    CheckpointFormatError,
    FailedPreconditionError,
    InvalidArgumentError,
    StorageFullError,
)
from memory3.fetching.places import Place, place_of
from memory3.manifest import MANIFEST, digest_of, read_manifest, sha256_of, verify_files

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_MANIFEST = 64 << 20


@dataclass(frozen=True)
class Fetched:
    """What a fetch did.

    Attributes:
        path: Where the checkpoint stands.
        digest: Of the checkpoint.
        num_files: The files it has, without the manifest.
        num_kept: Those of them that were here already.
        num_bytes: Bytes that were brought here.
    """

    path: Path
    digest: str
    num_files: int
    num_kept: int
    num_bytes: int


def fetch_checkpoint(
    url: str,
    digest: str,
    to: Path,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Fetched:
    """Bring a checkpoint here, or keep it if it is here.

    Args:
        url: The folder that holds it: a path, ``file://``, ``http(s)://``, ``s3://``, ``gs://`` or
            ``az://``.
        digest: The digest it must have, 64 hexadecimal digits.
        to: The directory to make. One of another checkpoint is not replaced.
        on_progress: Told the files that are here, and all of them.

    Raises:
        InvalidArgumentError: Digest or URL cannot be used.
        FailedPreconditionError: Something else stands at the target.
        CheckpointError: What the place has is not this checkpoint, or not whole.
        BackendUnavailableError: The place does not answer; what came is kept for the next try.
        StorageFullError: The disk is full.
    """
    if not _SHA256.fullmatch(digest):
        raise InvalidArgumentError(
            "the digest is no sha256",
            field="digest",
            remedy="give the 64 digits that `memory3 checkpoint info` shows",
        )
    place = place_of(url)
    to = to.absolute()
    with _disk_faults():
        to.parent.mkdir(parents=True, exist_ok=True)
        with _alone(to):
            if to.exists() or to.is_symlink():
                return _already_there(to, digest)
            staged = to.with_name(f".{to.name}.{digest[:16]}.partial")
            if staged.is_symlink():
                staged.unlink()
            staged.mkdir(exist_ok=True)
            fetched = _stage(place, digest, staged, to, on_progress)
            _sync_folders(staged)
            staged.rename(to)
            _sync(to.parent)
            return fetched


def _already_there(to: Path, digest: str) -> Fetched:
    try:
        manifest = read_manifest(to)
        verify_files(to, manifest)
    except (CheckpointError, OSError) as error:
        raise FailedPreconditionError(
            f"{to.name!r} is there and is no sound checkpoint",
            field="to",
            remedy="remove it, or give another directory",
        ) from error
    if manifest.digest != digest:
        raise FailedPreconditionError(
            f"{to.name!r} is there and is another checkpoint",
            field="to",
            remedy="give another directory",
            metadata={"expected": digest, "actual": manifest.digest},
        )
    return Fetched(to, digest, len(manifest.files), len(manifest.files), 0)


def _stage(
    place: Place, digest: str, staged: Path, to: Path, on_progress: Callable[[int, int], None]
) -> Fetched:
    content = b""
    for piece in place.pieces(MANIFEST):
        content += piece
        if len(content) > _MAX_MANIFEST:
            raise CheckpointFormatError(
                f"{MANIFEST} is too large", field=MANIFEST, remedy="see what the URL leads to"
            )
    files = _files_of(content, digest)
    _remove_others(staged, files)
    num_kept = num_bytes = 0
    for number, (name, expected) in enumerate(sorted(files.items())):
        on_progress(number, len(files))
        target = staged / name
        if target.is_file() and not target.is_symlink() and sha256_of(target) == expected:
            num_kept += 1
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        num_bytes += _bring(place, name, expected, target)
    (staged / MANIFEST).write_bytes(content)
    _sync(staged / MANIFEST)
    # The same checks that opening makes, once over all of it, from what is on the disk.
    verify_files(staged, read_manifest(staged))
    on_progress(len(files), len(files))
    return Fetched(to, digest, len(files), num_kept, num_bytes)


def _files_of(content: bytes, digest: str) -> dict[str, str]:
    """The names and hashes of a manifest, if they are those of the digest; else nothing is read."""
    try:
        files: Any = json.loads(content).get("files")
    except (ValueError, AttributeError, RecursionError) as error:
        raise CheckpointFormatError(
            f"{MANIFEST} is not a JSON object", field=MANIFEST, remedy="see what the URL leads to"
        ) from error
    hashes = files.values() if isinstance(files, dict) else [None]
    if not all(isinstance(value, str) and _SHA256.fullmatch(value) for value in hashes):
        raise CheckpointFormatError(
            "files are not there, or are no sha256",
            field=f"{MANIFEST}:files",
            remedy="see what the URL leads to",
        )
    for name in files:
        parts = name.split("/")
        outside = any(part in ("", ".", "..") for part in parts) or "\\" in name
        if outside or not name.isprintable() or name == MANIFEST:
            raise CheckpointFormatError(
                f"{name!r:.80} leads out of the checkpoint",
                field=f"{MANIFEST}:files",
                remedy="do not use this checkpoint",
            )
    actual = digest_of(files)
    if actual != digest:
        raise CheckpointDigestError(
            "this is another checkpoint than the one that was asked for",
            field="digest",
            remedy="give the digest of what you mean, or the URL where it is",
            metadata={"expected": digest, "actual": actual},
        )
    return dict(files)


def _bring(place: Place, name: str, expected: str, target: Path) -> int:
    arriving = target.with_name(f"{target.name}.arriving")
    hashed, size = hashlib.sha256(), 0
    with arriving.open("wb") as file:
        for piece in place.pieces(name):
            hashed.update(piece)
            size += file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    if hashed.hexdigest() != expected:
        arriving.unlink()
        raise CheckpointDigestError(
            f"{name} is not the file that the checkpoint has",
            field=name,
            remedy="see whether it was uploaded whole; nothing was put into place",
            metadata={"expected": expected, "actual": hashed.hexdigest()},
        )
    arriving.rename(target)
    return size


def _remove_others(staged: Path, files: dict[str, str]) -> None:
    """Take out what an earlier try left and no file of the checkpoint is, links above all."""
    for item in sorted(staged.rglob("*"), reverse=True):
        name = item.relative_to(staged).as_posix()
        if item.is_dir() and not item.is_symlink():
            if name in files:
                shutil.rmtree(item)
        elif item.is_symlink() or name not in files:
            item.unlink()


@contextmanager
def _alone(to: Path) -> Iterator[None]:
    """Two that fetch to the same place take turns; the second finds it done."""
    lock = os.open(to.with_name(f".{to.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def _disk_faults() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFullError(
            f"the checkpoint cannot be written here: {os.strerror(error.errno or 0).lower()}",
            field="to",
            remedy="make room, or give a directory that may be written",
        ) from error


def _sync_folders(root: Path) -> None:
    for folder in [root, *(item for item in root.rglob("*") if item.is_dir())]:
        _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
