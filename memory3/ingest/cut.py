"""Cuts a text that is too long for one document into parts, at headings or paragraph borders.

Every part opens with the headings that it stands under, so that its references keep their heading.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# Far below the wire's 3 MiB. A part is durable as a whole or not at all, so this much is lost when
# adding is broken off, and a progress bar stands still for as long: seconds on a small machine.
MAX_PART_BYTES: Final = 64 * 2**10

_HEADING: Final = re.compile(r"^(#{1,6})[ \t]+\S.*$", re.MULTILINE)
# Where to cut, the best first: before a heading, after a paragraph, a line, a word.
_BORDERS: Final = tuple(
    re.compile(pattern) for pattern in (r"\n(?=#{1,6}[ \t])", r"\n[ \t]*\n", r"\n", r"\s")
)


def cut(text: str, max_bytes: int = MAX_PART_BYTES) -> Iterator[str]:
    """The parts of a text, in order; a text that fits is its own only part.

    Args:
        text: Plain or Markdown text.
        max_bytes: The most bytes of UTF-8 in a part, at least 1024.

    Yields:
        Parts that are not blank. Without the repeated headings they are the whole text.
    """
    headings: list[tuple[int, str]] = []
    rest = text
    while rest:
        prefix = "".join(f"{line}\n\n" for _, line in headings)
        # Headings longer than half a part are no help to anyone.
        if len(prefix.encode()) > max_bytes // 2:
            prefix = ""
        end = _end_of_part(rest, max_bytes - len(prefix.encode()))
        part, rest = rest[:end], rest[end:]
        if part.strip():
            yield prefix + part
        _follow(headings, part)


def _follow(headings: list[tuple[int, str]], part: str) -> None:
    for found in _HEADING.finditer(part):
        level = len(found.group(1))
        while headings and headings[-1][0] >= level:
            headings.pop()
        headings.append((level, found.group(0).strip()))


def _end_of_part(text: str, max_bytes: int) -> int:
    # A character is at most four bytes, so most texts are measured by a prefix only.
    window = text[:max_bytes]
    if len(window.encode()) <= max_bytes:
        if len(window) == len(text):
            return len(text)
    else:
        window = window.encode()[:max_bytes].decode("utf-8", errors="ignore")
    for border in _BORDERS:
        # A border in the first half would make parts needlessly small.
        ends = [found.end() for found in border.finditer(window, len(window) // 2)]
        if ends:
            return ends[-1]
    return len(window)
