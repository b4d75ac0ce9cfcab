"""Removes what a changed file no longer has: records, parts, or all of its text.

The retriever replaces references source by source. A file has many sources where it becomes many
documents, and other ones when its kind changes, so what a new version does not write would stay:
the bank is asked which sources it has of the file. It must not know how files are read.
"""

from __future__ import annotations

import re
from typing import Final

from memory3.client import Client

# Sources that one request may name.
_MAX_SOURCES: Final = 1000

# What ingestion itself puts behind a file's path. Anything else is somebody's own: a file, say,
# whose name goes on with a #.
_OWN: Final = re.compile(r"(?:#(?:part|row|line|item)/\d+)?")


class Written:
    """The sources that a file has been given in this run.

    Args:
        path: The file's path as given.

    Attributes:
        path: The same.
        is_read: False if the file could not be looked into, so that nothing is known of what it
            still has.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.is_read = True
        self._sources: set[str] = set()
        self._num_parts = 0

    def next_part(self) -> str:
        """The source of the file's next part; the first is the path itself."""
        self._num_parts += 1
        source = self.path if self._num_parts == 1 else f"{self.path}#part/{self._num_parts}"
        self._sources.add(source)
        return source

    def record(self, name: str) -> str:
        """The source of a record named ``kind/number``."""
        source = self.record_source(name)
        self._sources.add(source)
        return source

    def record_source(self, name: str) -> str:
        """The source that a record would have; the path if it is the whole file."""
        return f"{self.path}#{name}" if name else self.path

    def is_stale(self, source: str) -> bool:
        """Whether a source inside the file's is one of an earlier version only."""
        if source in self._sources:
            return False
        return _OWN.fullmatch(source.removeprefix(self.path)) is not None


def remove_stale(client: Client, bank: str, written: Written) -> int:
    """Remove the references of sources that the new version of a file does not have.

    Args:
        client: Talks to the retriever.
        bank: The bank.
        written: The sources of the new version, all durable; nothing is removed of a file that
            was not read.

    Returns:
        The number of references removed.
    """
    if not written.is_read:
        return 0
    there = client.list_sources(bank, source=written.path, page_size=_MAX_SOURCES)
    stale = [source for source in there if written.is_stale(source)]
    num_removed = 0
    for start in range(0, len(stale), _MAX_SOURCES):
        some = stale[start : start + _MAX_SOURCES]
        num_removed += client.delete_references(bank, exact_sources=some).num_deleted
    return num_removed
