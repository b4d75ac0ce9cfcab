"""What ingestion keeps of a file while its documents are on their way to the bank.

It must not know how files are read or sent.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from memory3.ingest.files import size_of
from memory3.ingest.stale import Written


class FileUnderWay:
    """A file, the sources that it has been given, and its bytes that are not counted as done.

    Args:
        path: The file's path as given.
        name: The path as it is told and stored.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.written = Written(name)
        self.bytes_left = size_of(path)

    def take(self, num_bytes: int) -> int:
        """Count bytes as done.

        Args:
            num_bytes: How many; texts can be longer than the bytes that they were read from.

        Returns:
            How many there were to count.
        """
        taken = min(num_bytes, self.bytes_left)
        self.bytes_left -= taken
        return taken


@dataclass(frozen=True, slots=True)
class Sent:
    """A document that was sent and not yet acknowledged.

    Attributes:
        file: The file that it is of.
        num_bytes: How many bytes of the file it stands for.
        is_last: Whether it is the file's last.
    """

    file: FileUnderWay
    num_bytes: int
    is_last: bool


def printable(name: str) -> str:
    r"""A path or an ending as UTF-8 can carry it: bytes that are not UTF-8 as ``\xff``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
