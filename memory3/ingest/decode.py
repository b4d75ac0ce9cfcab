"""Turns the bytes of a text file into text, or says why they are none.

It must not know file formats.
"""

from __future__ import annotations

import codecs
from typing import Final, NamedTuple

from memory3.ingest.records import SkipError

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# Enough of a file to guess its encoding from.
_SAMPLE_BYTES: Final = 256 * 2**10

# Control characters that texts do have: tab, line ends, form feed.
_CONTROLS: Final = bytes(set(range(32)) - {0x09, 0x0A, 0x0C, 0x0D, 0x1B})


# The encoding of nearly all western text that is not Unicode; it contains Latin-1.
_WESTERN: Final = "cp1252"
# How much more of a language's letters another encoding must show to be believed instead. Among
# those of one family the figures differ by less than this, and by chance.
_CLEARLY: Final = 0.1


class Decoded(NamedTuple):
    """The text in some bytes.

    Attributes:
        text: The text.
        guessed: The encoding, if nothing in the bytes says it and they are not UTF-8; else empty.
    """

    text: str
    guessed: str = ""


def decode(data: bytes) -> Decoded:
    r"""The text in some bytes, with line ends as ``\n`` and without NUL or lone surrogates.

    Args:
        data: The content of a file.

    Returns:
        The text, by its byte order mark, else as UTF-8, else by the likeliest other encoding.

    Raises:
        SkipError: BINARY if the bytes are no text.
    """
    text, guessed = _decoded(data)
    return Decoded(text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", ""), guessed)


def _decoded(data: bytes) -> Decoded:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            try:
                return Decoded(data.decode(encoding))
            except UnicodeDecodeError as error:
                raise SkipError("BINARY", f"not {encoding} as its first bytes say") from error
    if _looks_binary(data):
        raise SkipError("BINARY", "binary, not text")
    try:
        return Decoded(data.decode("utf-8"))
    except UnicodeDecodeError:
        return _guessed(data)


def _looks_binary(data: bytes) -> bool:
    sample = data[:_SAMPLE_BYTES]
    if b"\0" in sample:
        return True
    return len(sample) - len(sample.translate(None, _CONTROLS)) > len(sample) // 50


def _guessed(data: bytes) -> Decoded:
    from charset_normalizer import from_bytes

    sample = data[:_SAMPLE_BYTES]
    best = from_bytes(sample).best()
    # None where as western text it would be a mess, as Cyrillic or Japanese are.
    western = from_bytes(sample, cp_isolation=[_WESTERN]).best()
    if western is not None and (best is None or best.coherence < western.coherence + _CLEARLY):
        best = western
    if best is None:
        raise SkipError("BINARY", "neither UTF-8 nor a text encoding that can be told")
    # The sample may end inside a character, and a rare byte beyond it must not lose the file.
    return Decoded(data.decode(best.encoding, errors="replace"), best.encoding)
