"""The structure of a text: its paragraphs, and the headings above each.

Reads Markdown headings (``# …`` and underlined ones), fenced code and blank lines, in one pass over
the lines; plain text is text without headings. It must not know tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

HEADING_SEPARATOR = " > "
# What is longer was not meant as a heading, and would be repeated with every reference under it.
MAX_HEADING_LENGTH = 200

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+|$)(.*)")
_UNDERLINE = re.compile(r" {0,3}(={3,}|-{3,})[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, a list, a table or a fenced block: lines without a blank line between.

    Attributes:
        start: The offset of its first character in the text.
        end: The offset after its last character.
        heading: The path of headings above it.
        section: The number of its section; blocks of one section have no heading between them.
    """

    start: int
    end: int
    heading: str
    section: int


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    end: int
    text: str  # without its line break


def read_blocks(text: str) -> list[Block]:
    """The blocks of a text in reading order.

    A heading that has nothing under it, neither text nor a deeper heading, is a block itself, so
    that nothing that was written is lost.
    """
    return _Reader(text).run()


def _lines(text: str) -> Iterator[_Line]:
    for match in _LINE.finditer(text):
        if match.end() > match.start():
            yield _Line(match.start(), match.end(), match.group().rstrip("\r\n"))


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._blocks: list[Block] = []
        self._path: list[tuple[int, str]] = []
        self._paragraph: list[_Line] = []
        self._fence = ""
        self._section = 0
        # The latest heading's place, until something stands under it.
        self._bare: tuple[int, int, int] | None = None

    def run(self) -> list[Block]:
        for line in _lines(self._text):
            self._read(line)
        self._end_paragraph()
        self._end_heading(0)
        return self._blocks

    def _read(self, line: _Line) -> None:
        fence = _FENCE.match(line.text)
        if self._fence:
            self._paragraph.append(line)
            if fence and fence.group(1).startswith(self._fence) and not line.text.strip(" `~\t"):
                self._fence = ""
                self._end_paragraph()
        elif fence:
            self._end_paragraph()
            self._fence = fence.group(1)
            self._paragraph.append(line)
        elif not line.text.strip():
            self._end_paragraph()
        elif (atx := _ATX.match(line.text)) and len(line.text) <= MAX_HEADING_LENGTH:
            self._end_paragraph()
            title = _without_closing_hashes(atx.group(2))
            start = line.start + atx.start(2)
            self._begin_heading(len(atx.group(1)), title.strip(), start, start + len(title))
        elif self._is_title_above() and (underline := _UNDERLINE.match(line.text)):
            above = self._paragraph.pop()
            level = 1 if underline.group(1).startswith("=") else 2
            end = above.start + len(above.text)
            self._begin_heading(level, above.text.strip(), above.start, end)
        else:
            self._paragraph.append(line)

    def _is_title_above(self) -> bool:
        above = self._paragraph
        return len(above) == 1 and len(above[0].text) <= MAX_HEADING_LENGTH

    def _begin_heading(self, level: int, title: str, start: int, end: int) -> None:
        self._end_heading(level)
        self._section += 1
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        if title:
            self._path.append((level, title))
            self._bare = (level, start, end)

    def _end_heading(self, next_level: int) -> None:
        """Make the latest heading a block if nothing has come under it and nothing will."""
        if self._bare is not None and next_level <= self._bare[0]:
            _, start, end = self._bare
            above = HEADING_SEPARATOR.join(title for _, title in self._path[:-1])
            self._blocks.append(Block(start, end, above, self._section))
            self._section += 1
        self._bare = None

    def _end_paragraph(self) -> None:
        if self._paragraph:
            heading = HEADING_SEPARATOR.join(title for _, title in self._path)
            start, end = self._paragraph[0].start, self._paragraph[-1].end
            if self._text[start:end].strip():
                self._blocks.append(Block(start, end, heading, self._section))
                self._bare = None
        self._paragraph = []


def _without_closing_hashes(title: str) -> str:
    """``Title ##`` is ``Title``, but ``C#`` stays as it is."""
    bare = title.rstrip(" \t")
    open_end = bare.rstrip("#")
    return open_end if open_end != bare and open_end[-1:] in ("", " ", "\t") else bare
