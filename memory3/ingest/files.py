"""Reads and parses one file: from a path to its texts, or to the reason why there are none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from memory3.ingest.decode import decode
from memory3.ingest.records import BadRecord, Parsed, SkipError

# Suffix to module; a parser is imported when the first file of its kind comes.
_PARSERS: Final = {
    ".txt": "plain",
    ".text": "plain",
    ".md": "markdown",
    ".markdown": "markdown",
    ".rst": "rst",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".json": "json_records",
    ".jsonl": "json_lines",
    ".ndjson": "json_lines",
    ".csv": "csv_records",
    ".tsv": "csv_records",
    ".pdf": "pdf",
}

SUFFIXES: Final = tuple(_PARSERS)
MAX_FILE_BYTES: Final = 256 * 2**20

Parser = Callable[[bytes, "FileOptions"], Iterator[Parsed | BadRecord]]


class FileOptions:
    """What a parser may want to know besides the bytes.

    Args:
        path: The path of the file.
        text_field: The field of a record that holds its text; None finds one or takes all.
        title_field: The field of a record that holds its title; None finds one.

    Attributes:
        guessed_encoding: The encoding that the parser had to guess; empty if it did not.
    """

    def __init__(
        self, path: Path, *, text_field: str | None = None, title_field: str | None = None
    ) -> None:
        self.path = path
        self.text_field = text_field
        self.title_field = title_field
        self.guessed_encoding = ""

    @property
    def fallback_title(self) -> str:
        """The file's name in words, for texts that have no title of their own."""
        return " ".join(self.path.stem.replace("_", " ").replace("-", " ").split())

    def decode(self, data: bytes) -> str:
        """The text in the file's bytes.

        Raises:
            SkipError: BINARY if the bytes are no text.
        """
        text, self.guessed_encoding = decode(data)
        return text


def is_known(path: Path) -> bool:
    """Whether there is a parser for files of this ending."""
    return path.suffix.lower() in _PARSERS


def size_of(path: Path) -> int:
    """The bytes of a file; 0 if that cannot be told."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def parse_file(options: FileOptions) -> Iterator[Parsed | BadRecord]:
    """The texts of a file.

    Args:
        options: The path and what is known of its records.

    Yields:
        Texts that are not blank, and records that cannot be used.

    Raises:
        SkipError: The whole file cannot be used.
    """
    suffix = options.path.suffix.lower()
    # A folder comes as a path of its own only where finding files could not look into it.
    if os.path.isdir(options.path):
        raise SkipError("UNREADABLE", "a folder that cannot be listed")
    if suffix not in _PARSERS:
        raise SkipError("UNKNOWN_SUFFIX", f"unknown suffix {suffix}" if suffix else "no suffix")
    parse = _load(_PARSERS[suffix])
    found = False
    for item in parse(_read(options.path), options):
        if isinstance(item, BadRecord) or item.text.strip():
            found = True
            yield item
    if not found:
        raise SkipError("EMPTY", "no text in it")


def _load(name: str) -> Parser:
    try:
        module: Any = import_module(f"memory3.ingest.parsers.{name}")
    except ModuleNotFoundError as error:
        raise SkipError(
            "MISSING_PARSER", f"needs {error.name}: pip install 'memory3[ingest]'"
        ) from error
    parse: Parser = module.parse
    return parse


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise SkipError("UNREADABLE", "not a regular file")
        size = os.stat(path).st_size
        if size > MAX_FILE_BYTES:
            raise SkipError("TOO_LARGE", f"{size} bytes is above {MAX_FILE_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise SkipError("UNREADABLE", (error.strerror or str(error)).lower()) from error
