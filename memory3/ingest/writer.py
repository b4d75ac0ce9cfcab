"""Writes the text of a structured document: headings, paragraphs, lists and code, one form for all.

Whatever the file type, a heading becomes a ``#`` line, and no other line begins with ``#``, so that
the retriever finds exactly the document's own headings.
"""

from __future__ import annotations

import re
from typing import Final

_SPACES: Final = re.compile(r"[ \t\r\f\v\u00a0]+")
_LOOKS_LIKE_HEADING: Final = re.compile(r"^ {0,3}(?=#{1,6}(?:\s|$))")


class TextWriter:
    """Collects blocks; blocks are parted by a blank line, list items and table rows by a line end.

    Attributes:
        first_heading: The first heading written; empty if none was.
    """

    def __init__(self) -> None:
        self.first_heading = ""
        self._blocks: list[str] = []
        self._lines: list[str] = []
        # For each open list the next number, or None for bullets.
        self._lists: list[int | None] = []
        self._marker = ""

    def heading(self, level: int, text: str) -> None:
        """Write a heading of a level from 1 to 6."""
        clean = " ".join(text.split())
        if clean:
            self._flush()
            self._blocks.append(f"{'#' * max(1, min(level, 6))} {clean}")
            self.first_heading = self.first_heading or clean

    def paragraph(self, text: str) -> None:
        """Write a paragraph, or the text of a list item if one is open; line breaks are kept."""
        clean = "\n".join(line for line in (_plain(raw) for raw in text.split("\n")) if line)
        if not clean:
            return
        if self._lists:
            indent = "  " * (len(self._lists) - 1)
            self._lines.append(f"{indent}{self._marker or '  '}{clean}")
            self._marker = ""
        else:
            self._flush()
            self._blocks.append(clean)

    def line(self, text: str) -> None:
        """Write a line that stands with its neighbours, such as a row of a table."""
        clean = _plain(text)
        if clean:
            self._lines.append(clean)

    def code(self, text: str) -> None:
        """Write code, indented so that a comment in it is not taken for a heading."""
        lines = [f"    {line.rstrip()}".rstrip() for line in text.rstrip().split("\n")]
        if any(lines):
            self._flush()
            self._blocks.append("\n".join(lines).strip("\n"))

    def open_list(self, first_number: int | None = None) -> None:
        """Begin a list: numbered from the number given, else with bullets."""
        if not self._lists:
            self._flush()
        self._lists.append(first_number)

    def open_item(self) -> None:
        """Begin an item of the innermost list; its first paragraph gets the mark."""
        if not self._lists:
            return
        number = self._lists[-1]
        self._marker = "- " if number is None else f"{number}. "
        if number is not None:
            self._lists[-1] = number + 1

    def close_list(self) -> None:
        """End the innermost list."""
        if self._lists:
            self._lists.pop()
        if not self._lists:
            self._marker = ""
            self._flush()

    def text(self) -> str:
        """Everything written; ends in a line end unless empty."""
        self._flush()
        return "\n\n".join(self._blocks) + "\n" if self._blocks else ""

    def _flush(self) -> None:
        if self._lines:
            self._blocks.append("\n".join(self._lines))
            self._lines = []


def _plain(raw: str) -> str:
    line = _SPACES.sub(" ", raw).strip()
    # Four spaces make it text, not a heading, for every reader of Markdown.
    return _LOOKS_LIKE_HEADING.sub("    ", line)
