"""Splitting a whole text into references of at most the reference length, at natural borders.

Blocks under one heading are packed greedily: a block that fits into a reference stays whole; one
that does not is cut at sentences, a sentence that does not at words, a word that does not at
tokens. A reference's text is exactly ``document[start:end]``. Deterministic. Knows no banks.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import tokenizers

from memory3.documents.blocks import Block, read_blocks
from memory3.documents.sentences import is_line_block, sentence_spans
from memory3.errors import InvalidArgumentError

_WORD_BORDER = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Piece:
    """A reference to be.

    Attributes:
        start: The offset of its first character in the document.
        end: The offset after its last character.
        text: ``document[start:end]``.
        heading: The path of headings above it.
        num_tokens: The length of its text in tokens.
    """

    start: int
    end: int
    text: str
    heading: str
    num_tokens: int


@dataclass(frozen=True, slots=True)
class _Atom:
    """A span that is not cut further, with the tokens it is estimated to take.

    It begins with the white space that stands before it, also that before its block.
    """

    start: int
    end: int
    num_tokens: int
    block: int  # the number of its block in the document


class Splitter:
    """Splits documents and counts tokens.

    Args:
        tokenizer: The checkpoint's tokenizer; it is copied, so that truncation or padding set
            elsewhere changes nothing here.
        reference_length: The most tokens of a reference.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, reference_length: int) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.reference_length = reference_length

    def count(self, texts: Sequence[str]) -> list[int]:
        """The length of each text in tokens, without any begin token."""
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding.ids) for encoding in encoded]

    def split(self, document: str) -> list[Piece]:
        """Split a plain or Markdown text.

        Returns:
            References in reading order; their spans do not overlap, and between them are only
            white space and headings.

        Raises:
            InvalidArgumentError: One character alone takes more tokens than a reference has.
        """
        blocks = read_blocks(document)
        atoms = self._atoms(document, blocks)
        runs: list[tuple[str, list[_Atom]]] = []
        pairs = zip(blocks, atoms, strict=True)
        for _, group in groupby(pairs, key=lambda pair: pair[0].section):
            section = list(group)
            packed = self._pack([atoms for _, atoms in section])
            runs.extend((section[0][0].heading, run) for run in packed)
        return self._checked(document, runs)

    def _atoms(self, document: str, blocks: Sequence[Block]) -> list[list[_Atom]]:
        """The sentences of each block, counted in one batch; longer ones are cut."""
        spans = _sentences(document, blocks)
        flat = [span for block in spans for span in block]
        counts = iter(self.count([document[start:end] for start, end in flat]))
        return [
            [
                atom
                for start, end in block
                for atom in self._fitting(document, _Atom(start, end, next(counts), number))
            ]
            for number, block in enumerate(spans)
        ]

    def _fitting(self, document: str, atom: _Atom) -> list[_Atom]:
        if atom.num_tokens <= self.reference_length:
            return [atom]
        return list(self._cut(document, atom))

    def _cut(self, document: str, long: _Atom) -> Iterator[_Atom]:
        """Cut a long sentence before words, or inside of words that are too long themselves."""
        start, end = long.start, long.end
        text = document[start:end]
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        borders = [*(match.start() for match in _WORD_BORDER.finditer(text)), len(text)]
        first_token, begin = 0, 0
        while len(offsets) - first_token > self.reference_length:
            limit = offsets[first_token + self.reference_length][0]
            word = bisect_right(borders, limit) - 1
            cut = borders[word] if word >= 0 and borders[word] > begin else max(limit, begin + 1)
            last = first_token
            while last < len(offsets) and offsets[last][0] < cut:
                last += 1
            yield _Atom(start + begin, start + cut, last - first_token, long.block)
            first_token, begin = last, cut
        if begin < len(text):
            yield _Atom(start + begin, end, len(offsets) - first_token, long.block)

    def _pack(self, blocks: Sequence[Sequence[_Atom]]) -> Iterator[list[_Atom]]:
        """Fill references with whole blocks, and with the sentences of blocks too long for one."""
        run: list[_Atom] = []
        room = self.reference_length
        for block in blocks:
            size = sum(atom.num_tokens for atom in block)
            if room < size <= self.reference_length and run:
                yield run
                run, room = [], self.reference_length
            for atom in block:
                if atom.num_tokens > room and run:
                    yield run
                    run, room = [], self.reference_length
                run.append(atom)
                room -= atom.num_tokens
        if run:
            yield run

    def _checked(self, document: str, runs: Sequence[tuple[str, list[_Atom]]]) -> list[Piece]:
        """Count what was packed as it will be encoded, and divide what came out too long.

        Tokens of a whole are not exactly those of its parts, so the sums were estimates.
        """
        pieces: list[Piece] = []
        pending = list(runs)
        while pending:
            spans = [_trimmed(document, run[0].start, run[-1].end) for _, run in pending]
            counts = self.count([document[start:end] for start, end in spans])
            divided: list[tuple[str, list[_Atom]]] = []
            for (heading, run), (start, end), count in zip(pending, spans, counts, strict=True):
                if count > self.reference_length:
                    divided.extend((heading, part) for part in self._halves(document, run))
                elif count:
                    pieces.append(Piece(start, end, document[start:end], heading, count))
            pending = divided
        return sorted(pieces, key=lambda piece: piece.start)

    def _halves(self, document: str, run: list[_Atom]) -> list[list[_Atom]]:
        # All but the last fills the reference best; it was one too many by a few tokens.
        whole = [atom for atom in run if atom.block != run[-1].block]
        if whole:
            return [whole, run[len(whole) :]]
        if len(run) > 1:
            return [run[:-1], run[-1:]]
        start, end = _trimmed(document, run[0].start, run[0].end)
        if end - start < 2:
            raise InvalidArgumentError(
                f"one character takes more than {self.reference_length} tokens",
                field="text",
                remedy="use a checkpoint with a longer reference length",
            )
        middle = (start + end) // 2
        border = max(document.rfind(space, start + 1, middle) for space in " \n")
        cut = border if border > start else middle
        return [[_Atom(start, cut, 0, 0)], [_Atom(cut, end, 0, 0)]]


def _sentences(document: str, blocks: Sequence[Block]) -> list[list[tuple[int, int]]]:
    """The spans of each block's sentences, the white space before the block included."""
    found: list[list[tuple[int, int]]] = []
    before: Block | None = None
    for block in blocks:
        by_line = is_line_block(document, block.start, block.end)
        spans = sentence_spans(document, block.start, block.end, by_line=by_line)
        if before is not None and before.section == block.section:
            spans[0] = (before.end, spans[0][1])
        found.append(spans)
        before = block
    return found


def _trimmed(document: str, start: int, end: int) -> tuple[int, int]:
    """A span without the white space at its ends."""
    text = document[start:end]
    return end - len(text.lstrip()), start + len(text.rstrip())
