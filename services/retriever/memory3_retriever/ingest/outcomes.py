"""What is asked for, and what became of it, in the words of the bank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

DuplicatePolicy = Literal["skip", "overwrite", "fail"]
"""What becomes of a reference that is in the bank already: it stays, is replaced, or is refused."""


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A whole text to be split; without a ``ttl_ns`` its references live as the bank has it."""

    text: str
    source: str = ""
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    ttl_ns: int | None = None


@dataclass(frozen=True, slots=True)
class AddedDocument:
    """What became of a document: its references in reading order, and counts."""

    keys: tuple[bytes, ...]
    num_added: int
    num_existing: int
    num_updated: int
    num_removed: int


@dataclass(frozen=True, slots=True)
class AddedReference:
    """What became of a reference; not ``added`` means that it was there already."""

    key: bytes
    added: bool
