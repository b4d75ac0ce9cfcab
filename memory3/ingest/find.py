"""Finds the files that paths, folders and globs mean, in a stable order and each once.

It must not open files.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memory3.errors import InvalidArgumentError

# Folders that version control keeps for itself and that do not begin with a dot.
_VCS_FOLDERS: Final = frozenset({"CVS", "_darcs", "RCS", "SCCS"})
_GLOB_SIGNS: Final = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files of a folder are taken.

    Attributes:
        include: Glob patterns; a file must match one of them, if there are any.
        exclude: Glob patterns; a file or folder that matches one of them is left out.

    A pattern without ``/`` is matched with the name, one with ``/`` with the path below the folder;
    ``*`` also matches ``/``.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def takes_file(self, relative: str) -> bool:
        """Whether a file at this path below the folder is taken."""
        if self.include and not _matches(relative, self.include):
            return False
        return not _matches(relative, self.exclude)

    def enters(self, relative: str) -> bool:
        """Whether a folder at this path below the folder is looked into."""
        name = relative.rpartition("/")[2]
        if name.startswith(".") or name in _VCS_FOLDERS:
            return False
        return not _matches(relative, self.exclude) and not _matches(f"{relative}/", self.exclude)


def find_files(paths: Sequence[str], selection: Selection | None = None) -> Iterator[Path]:
    """Yield the files that the paths mean.

    A folder stands for all files below it except hidden ones and those of version control; links
    to folders are not followed. A glob (``*``, ``?``, ``[…]``, ``**``) stands for what it matches.
    A file named itself is always taken, whatever the selection.

    Args:
        paths: Files, folders and globs.
        selection: Which files of folders and globs are taken; None for all.

    Yields:
        Paths as they were given, with what lies below folders appended, sorted within each.

    Raises:
        InvalidArgumentError: A path does not exist or a glob matches nothing. Raised before the
            first file is given, so that a mistyped path adds nothing.
    """
    chosen = selection or Selection()
    resolved = [(given, _resolve(given)) for given in paths]
    return _walk_all(resolved, chosen)


def _walk_all(resolved: list[tuple[str, list[Path]]], selection: Selection) -> Iterator[Path]:
    seen: set[Path] = set()
    for given, roots in resolved:
        is_glob = roots != [Path(given)]
        for root in roots:
            for path in _files_of(root, selection, by_name=not is_glob):
                if path not in seen:
                    seen.add(path)
                    yield path


def _files_of(root: Path, selection: Selection, *, by_name: bool) -> Iterator[Path]:
    if root.is_dir():
        yield from _walk(root, "", selection)
    elif by_name or selection.takes_file(root.as_posix()):
        yield root


def _resolve(given: str) -> list[Path]:
    if os.path.lexists(given):
        return [Path(given)]
    if not _GLOB_SIGNS.intersection(given):
        raise InvalidArgumentError(
            f"there is no file or folder {given!r}", field="PATH", remedy="check the path"
        )
    matches = sorted(glob.glob(given, recursive=True))
    # With `**` a folder and the files in it match both; the folder would ignore the pattern.
    files = [Path(match) for match in matches if not os.path.isdir(match)]
    found = files or [Path(match) for match in matches]
    if not found:
        raise InvalidArgumentError(
            f"nothing matches {given!r}", field="PATH", remedy="check the pattern"
        )
    return found


def _walk(folder: Path, relative: str, selection: Selection) -> Iterator[Path]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        # Handed on as a path: whoever opens it reports that it cannot be read.
        yield folder
        return
    for entry in entries:
        below = f"{relative}/{entry.name}" if relative else entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if selection.enters(below):
                yield from _walk(folder / entry.name, below, selection)
        elif not entry.is_dir() and selection.takes_file(below):
            yield folder / entry.name


def _matches(relative: str, patterns: Sequence[str]) -> bool:
    name = relative.rpartition("/")[2]
    return any(
        fnmatch.fnmatchcase(relative if "/" in pattern else name, pattern) for pattern in patterns
    )
