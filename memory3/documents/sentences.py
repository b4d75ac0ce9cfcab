"""Where sentences, list items and lines begin inside a block. It must not know tokens."""

from __future__ import annotations

import re
from itertools import pairwise

# A border is where white space follows what can end a sentence and what can begin one comes next;
# Chinese and Japanese marks need no white space.
# Possessive, and begun only where a run of marks begins: linear in the length of any text.
_BORDER = re.compile(
    r"""(?<![.!?…])(?P<end>[.!?…]++["'”’»)\]]*+)(?P<gap>\s++)(?=["'“‘«(\[¿¡]*+[^\W_a-z])"""
    r"""|(?P<wide>[。！？]["'”’」』）]*+)(?P<none>\s*+)(?=\S)""",
)
_LIST_ITEM = re.compile(r"(?:\r\n|\r|\n)(?=[ \t]*(?:[-*+•]|\d{1,9}[.)])[ \t])")
_LINE_BREAK = re.compile(r"\r\n|\r|\n")

# Words before a full stop that does not end a sentence.
_ABBREVIATIONS = {
    *("mr", "mrs", "ms", "dr", "prof", "sr", "jr", "st", "rev", "hon", "gov", "sen", "rep"),
    *("gen", "col", "lt", "sgt", "inc", "ltd", "co", "corp", "vs", "etc", "al", "cf", "approx"),
    *("fig", "eq", "no", "vol", "pp", "ed", "eds", "e.g", "i.e"),
    *("jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec"),
}
_LAST_WORD = re.compile(r"([^\s(\[\"'“‘]+)\.$")


def sentence_spans(text: str, start: int, end: int, *, by_line: bool) -> list[tuple[int, int]]:
    """Cut a block into sentences.

    Args:
        text: The whole text.
        start: Where the block begins.
        end: Where it ends.
        by_line: Every line is a unit of its own, as in code and tables.

    Returns:
        Half-open spans that cover the block without gaps; each begins with the white space that
        stands before its sentence.
    """
    block = text[start:end]
    borders = {0, len(block)}
    if by_line:
        borders.update(match.start() for match in _LINE_BREAK.finditer(block))
    else:
        borders.update(match.start() for match in _LIST_ITEM.finditer(block))
        borders.update(
            border for match in _BORDER.finditer(block) if (border := _place(block, match))
        )
    ordered = sorted(borders)
    return [(start + a, start + b) for a, b in pairwise(ordered) if b > a]


def _place(block: str, match: re.Match[str]) -> int:
    """The offset of a border, or 0 where the full stop belongs to an abbreviation or initial."""
    if match.group("wide"):
        return match.start("none")
    if match.group("end") == ".":
        word = _LAST_WORD.search(block, max(0, match.start() - 40), match.end("end"))
        if word:
            bare = word.group(1)
            if bare.lower() in _ABBREVIATIONS or (len(bare) == 1 and bare.isupper()):
                return 0
    return match.start("gap")


def is_line_block(text: str, start: int, end: int) -> bool:
    """Whether a block is code or a table, whose lines are its units."""
    head = text[start : min(end, start + 200)].lstrip(" ")
    return head.startswith(("```", "~~~", "|")) or head[:1] == "\t"
