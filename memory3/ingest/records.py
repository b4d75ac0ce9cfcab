"""What ingestion passes from step to step: parsed pieces of a file, and what was skipped and why.

It must not know file formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

SkipReason = Literal[
    "UNKNOWN_SUFFIX",
    "BAD_NAME",
    "UNREADABLE",
    "BINARY",
    "EMPTY",
    "ENCRYPTED",
    "TOO_LARGE",
    "MALFORMED",
    "MISSING_PARSER",
    "REFUSED",
]
"""Why a file or a record of it was not added. REFUSED: by the retriever."""

NOT_LOOKED_INTO: Final[frozenset[SkipReason]] = frozenset(
    {"UNKNOWN_SUFFIX", "BAD_NAME", "UNREADABLE", "MISSING_PARSER"}
)
"""Reasons that say nothing of what is in the file now."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """One text found in a file.

    Attributes:
        text: Plain or Markdown text; headings are lines that begin with ``#``.
        title: The title of the text; may be empty.
        record: What names the record inside the file, such as ``row/3``; empty if the text is the
            whole file.
        metadata: Pairs to keep with every reference.
    """

    text: str
    title: str = ""
    record: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, or a record of one, that was not added.

    Attributes:
        source: The file's path as given, with ``#record`` if it is a record.
        reason: The kind of reason.
        message: The reason in words.
    """

    source: str
    reason: SkipReason
    message: str


@dataclass(frozen=True, slots=True)
class Guessed:
    """A file that was read in an encoding that nothing in it says.

    Attributes:
        source: The file's path as given.
        encoding: What was guessed.
    """

    source: str
    encoding: str


class SkipError(Exception):
    """Raised by a parser where a whole file cannot be used.

    Attributes:
        reason: The kind of reason.
        message: The reason in words.
    """

    def __init__(self, reason: SkipReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class BadRecord:
    """Yielded by a parser where one record of a file cannot be used.

    Attributes:
        record: What names the record inside the file.
        message: What is wrong with it.
        reason: The kind of reason.
    """

    record: str
    message: str
    reason: SkipReason = "MALFORMED"
