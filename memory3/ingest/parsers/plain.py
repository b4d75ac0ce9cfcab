"""Plain text: as it is."""

from __future__ import annotations

from collections.abc import Iterator

from memory3.ingest.files import FileOptions
from memory3.ingest.records import Parsed


def parse(data: bytes, options: FileOptions) -> Iterator[Parsed]:
    """The whole text, named by the file."""
    yield Parsed(options.decode(data), options.fallback_title)
