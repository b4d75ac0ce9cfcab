"""The texts of files, for commands that read them here and send them nowhere.

A file that `memory3 add` would skip is an error here: a measurement must not leave out half of
what it was given in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from memory3.errors import InvalidArgumentError
from memory3.ingest.files import FileOptions, parse_file
from memory3.ingest.find import find_files
from memory3.ingest.records import BadRecord, SkipError


def iter_texts(paths: Sequence[str]) -> Iterator[str]:
    """The texts of files, folders and globs in a stable order, none of them blank.

    Args:
        paths: As `memory3 add` takes them.

    Raises:
        InvalidArgumentError: A path does not exist, or a file or a record of it cannot be read.
    """
    for path in find_files(paths):
        try:
            for item in parse_file(FileOptions(path)):
                if isinstance(item, BadRecord):
                    raise SkipError(item.reason, f"{item.record}: {item.message}")
                yield item.text
        except SkipError as error:
            raise InvalidArgumentError(
                f"{path} cannot be read: {error.message}",
                field="texts",
                remedy="leave it out, or give it in a format that `memory3 add` reads",
            ) from error
