"""Turns the bytes of a text file into text, or says why they are none.

It must not know file formats.
"""

from __future__ import annotations

import codecs
from typing import Final

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


def decode(data: bytes) -> str:
    r"""The text in some bytes, with line ends as ``\n`` and without NUL or lone surrogates.

    Args:
        data: The content of a file.

    Returns:
        The text, by its byte order mark, else as UTF-8, else by the likeliest other encoding.

    Raises:
        SkipError: BINARY if the bytes are no text.
    """
    text = _decoded(data)
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _decoded(data: bytes) -> str:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                raise SkipError("BINARY", f"not {encoding} as its first bytes say") from error
    if _looks_binary(data):
        raise SkipError("BINARY", "binary, not text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _guessed(data)


def _looks_binary(data: bytes) -> bool:
    sample = data[:_SAMPLE_BYTES]
    if b"\0" in sample:
        return True
    return len(sample) - len(sample.translate(None, _CONTROLS)) > len(sample) // 50


def _guessed(data: bytes) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(data[:_SAMPLE_BYTES]).best()
    if best is None:
        raise SkipError("BINARY", "neither UTF-8 nor a text encoding that can be told")
    # The sample may end inside a character, and a rare byte beyond it must not lose the file.
    return data.decode(best.encoding, errors="replace")
