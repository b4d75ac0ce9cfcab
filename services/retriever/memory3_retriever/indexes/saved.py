"""A base on disk: put there whole or not at all, and verified before native code reads it.

Native readers load an index of other dimensions without a word, and damaged bytes kill the process
or change results. So a saved base is a folder ``NAME-N`` of plain files, with a manifest that holds
its form, the checksum of each file and one of its own; whatever does not agree is not there. All of
it can be derived again, so a base that is refused costs time and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from crc32c import crc32c

from memory3.rpc.logging import get_logger
from memory3_retriever.files import publish, sweep, temporary_folder

_MANIFEST = "manifest.json"
_MAX_MANIFEST_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 20

_log = get_logger(__name__)

Base = TypeVar("Base")


def save_base(
    folder: Path,
    prefix: str,
    form: Mapping[str, Any],
    write: Callable[[Path], Sequence[str]],
) -> Path:
    """Put a base beside the older ones, durably, then remove those.

    Args:
        folder: The index's folder; made if it is not there.
        prefix: What the folder of the base begins with.
        form: What a reader must find again in the manifest, or may want to know.
        write: Writes files into a folder and returns their names.

    Returns:
        Its folder.

    Raises:
        OSError: The disk failed; the older base is intact.
    """
    folder.mkdir(parents=True, exist_ok=True)
    older = _generations(folder, prefix)
    number = max((number for number, _ in older), default=0) + 1
    with temporary_folder(folder) as work:
        names = write(work)
        manifest = {**form, "files": {name: checksum_of(work / name) for name in names}}
        manifest["crc32c"] = manifest_checksum(manifest)
        (work / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        final = folder / f"{prefix}{number}"
        publish(work, final)
    for _, old in older:
        _remove(old)
    return final


def load_base(
    folder: Path,
    prefix: str,
    form: Mapping[str, Any],
    read: Callable[[Path, Mapping[str, Any]], Base],
) -> Base | None:
    """The newest base that is whole and of this form; None if there is none.

    Args:
        folder: The index's folder.
        prefix: What the folder of the base begins with.
        form: What the manifest must say.
        read: Makes the base of a verified folder and its manifest.
    """
    if not folder.is_dir():
        return None
    sweep(folder)
    for _, path in reversed(_generations(folder, prefix)):
        try:
            return read(path, verified(path, form))
        except Exception as error:
            # Whatever the files may be, the bank must open.
            _log.warning("a saved index is not used", index=path.name, why=str(error)[:500])
    return None


def checksum_of(path: Path) -> list[int]:
    """The crc32c of a plain file and its size in bytes.

    A checksum rather than a hash: it is read at every start, and found damage, not forgery.

    Raises:
        OSError: The file cannot be read, or is a link or no plain file.
    """
    checksum, size, block = 0, 0, bytearray(_BLOCK_BYTES)
    with os.fdopen(_open_plain(path), "rb", buffering=0) as file:
        while count := file.readinto(block):
            checksum = crc32c(memoryview(block)[:count], checksum)
            size += count
    return [checksum, size]


def manifest_checksum(manifest: Mapping[str, Any]) -> int:
    """The checksum of a manifest that does not hold one yet."""
    return int(crc32c(json.dumps(manifest, sort_keys=True).encode()))


def verified(path: Path, form: Mapping[str, Any]) -> Mapping[str, Any]:
    """The manifest of a base whose files are whole.

    Raises:
        ValueError: Something is not as the manifest says, or the manifest not of this form.
        OSError: A file cannot be read.
    """
    if path.is_symlink():
        raise ValueError("it is a link")
    with os.fdopen(_open_plain(path / _MANIFEST), "rb") as file:
        manifest = json.loads(file.read(_MAX_MANIFEST_BYTES))
    if not isinstance(manifest, dict):
        raise ValueError("the manifest is no object")
    if manifest.pop("crc32c", None) != manifest_checksum(manifest):
        raise ValueError("the manifest's checksum is wrong")
    for name, value in form.items():
        if manifest.get(name) != value:
            raise ValueError(f"its {name} is {manifest.get(name)}, not {value}")
    for name, expected in manifest["files"].items():
        if Path(name).name != name or checksum_of(path / name) != expected:
            raise ValueError(f"{name} does not have the manifest's checksum")
    return manifest


def _open_plain(path: Path) -> int:
    """A handle of a plain file; opening a pipe or a device in its place does not wait."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{path.name} is no plain file")
    return handle


def _generations(folder: Path, prefix: str) -> list[tuple[int, Path]]:
    numbered = [(path.name.removeprefix(prefix), path) for path in folder.glob(f"{prefix}*")]
    return sorted(
        (int(number), path) for number, path in numbered
        if number.isascii() and number.isdigit() and len(number) <= 18
    )  # fmt: skip


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
