"""Removes what a changed file no longer has: records and parts beyond its new end.

The retriever replaces references source by source. A file that becomes many documents has many
sources, and those that the new version does not write would stay; they are named by rule, so that
they can be found without keeping a list of them anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from typing import Final

from memory3.client import Client

# Numbers may have holes where records were blank; this many in a row are taken for the end.
_MISSES_TO_END: Final = 16

_NUMBERED: Final = re.compile(r"(\w+)/(\d+)")


class Written:
    """The sources that a file has been given in this run.

    Args:
        path: The file's path as given.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._num_parts = 0
        self._kind = ""
        self._last_number = 0
        self._skipped: list[str] = []

    @property
    def has_records(self) -> bool:
        """Whether the file holds numbered records."""
        return bool(self._kind)

    def next_part(self) -> str:
        """The source of the file's next part; the first is the path itself."""
        self._num_parts += 1
        return self.path if self._num_parts == 1 else f"{self.path}#part/{self._num_parts}"

    def record(self, name: str) -> str:
        """The source of a record named ``kind/number``."""
        numbered = _NUMBERED.fullmatch(name)
        if numbered is not None:
            self._kind = numbered.group(1)
            self._last_number = max(self._last_number, int(numbered.group(2)))
        return f"{self.path}#{name}"

    def skipped_record(self, name: str) -> str:
        """The source that a skipped record would have; the path if it is the whole file."""
        if not name:
            return self.path
        source = self.record(name)
        self._skipped.append(source)
        return source

    def stale_sources(self) -> Iterator[tuple[str, bool]]:
        """Sources that an earlier version may have left, each with whether a miss ends the search.

        Yields:
            ``(source, ends)``: numbered sources beyond the end go on for ever.
        """
        for source in self._skipped:
            yield source, False
        kind = self._kind or "part"
        last = self._last_number if self._kind else max(1, self._num_parts)
        for number in count(last + 1):
            yield f"{self.path}#{kind}/{number}", True


def remove_stale(client: Client, bank: str, written: Written) -> int:
    """Remove the references of sources that the new version of a file does not have.

    Args:
        client: Talks to the retriever.
        bank: The bank.
        written: The sources of the new version, all durable.

    Returns:
        The number of references removed.
    """
    num_removed = 0
    misses = 0
    for source, ends in written.stale_sources():
        if next(client.list_references(bank, source=source, page_size=1), None) is not None:
            num_removed += client.delete_references(bank, source=source).num_deleted
            misses = 0
        elif ends:
            misses += 1
            # Parts have no holes; records may.
            if misses >= (_MISSES_TO_END if written.has_records else 1):
                break
    return num_removed
