"""Words of a text and their hashed directions: what the lexical embedder counts.

Words are found in any script by Unicode category alone. Everything here is a pure function of its
input and the same on every machine. It must not know frequencies or files.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

# Directions are spread over several signed entries each: one alone makes two words collide
# completely once in ``dimensions`` pairs, and a name that collides with a frequent word is lost.
_ENTRIES_PER_WORD = 16
_ENTRIES_PER_GRAM = 4
_GRAM_LENGTHS = (3, 4)
# Longer words are not written by people; their inner spelling is left out of account.
_MAX_GRAM_CHARACTERS = 48

_ASCII_WORD = re.compile(r"[a-z0-9]+")
# Thai, Lao, Myanmar, Khmer, Kana and Han are written without spaces.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]+"
)


class _Separators(dict[int, int]):
    """A table for ``str.translate`` that turns all but letters, marks and digits into spaces."""

    def __missing__(self, code: int) -> int:
        kept = unicodedata.category(chr(code))[0] in "LMN"
        self[code] = code if kept else 32
        return self[code]


_separators = _Separators()


def split_words(text: str) -> list[str]:
    """The words of a text in order, case folded and in compatibility form.

    Runs of a script that is written without spaces give their overlapping pairs of characters.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    # Folding can undo the compatibility form and the other way round; once more settles it.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words: list[str] = []
    for word in folded.translate(_separators).split():
        if word.isascii() or _UNSPACED.search(word) is None:
            words.append(word)
        else:
            words.extend(_split_unspaced(word))
    return words


def _split_unspaced(word: str) -> list[str]:
    parts: list[str] = []
    end = 0
    for run in _UNSPACED.finditer(word):
        if run.start() > end:
            parts.append(word[end : run.start()])
        characters = run.group()
        if len(characters) == 1:
            parts.append(characters)
        else:
            parts.extend(characters[i : i + 2] for i in range(len(characters) - 1))
        end = run.end()
    if end < len(word):
        parts.append(word[end:])
    return parts


def word_key(word: str) -> int:
    """The number that stands for a word in a table of frequencies, 0 to 2**32 − 1."""
    return int.from_bytes(_hash(word, b"key", 4), "little")


def word_direction(word: str, dimensions: int, gram_weight: float) -> NDArray[np.float32]:
    """The direction of a word: its own hashed one plus that of its spelling.

    Args:
        word: A word as ``split_words`` gives it.
        dimensions: The length of the result.
        gram_weight: The length of the spelling's part; the word's own has length 1. It lets
            inflected and misspelt forms meet.

    Returns:
        ``[dimensions]`` float32.
    """
    direction = np.zeros(dimensions, np.float32)
    _add_hashed(direction, [word], b"word", _ENTRIES_PER_WORD)
    grams = _grams(word[:_MAX_GRAM_CHARACTERS]) if gram_weight else []
    if grams:
        spelling = np.zeros(dimensions, np.float32)
        _add_hashed(spelling, grams, b"gram", _ENTRIES_PER_GRAM)
        length = float(np.linalg.norm(spelling))
        if length > 0.0:
            direction += spelling * np.float32(gram_weight / length)
    return direction


def _grams(word: str) -> list[str]:
    bounded = f"<{word}>"
    return [
        bounded[start : start + length]
        for length in _GRAM_LENGTHS
        for start in range(len(bounded) - length + 1)
    ]


def _add_hashed(
    target: NDArray[np.float32], features: list[str], family: bytes, entries: int
) -> None:
    # Multiples of a power of two are added, so the order makes no difference.
    hashes = b"".join([_hash(feature, family, 4 * entries) for feature in features])
    numbers = np.frombuffer(hashes, "<u4")
    signs = np.where(numbers & 1, np.float32(1.0), np.float32(-1.0))
    np.add.at(target, (numbers >> 1) % target.shape[0], signs / np.float32(entries**0.5))


def _hash(feature: str, family: bytes, size: int) -> bytes:
    encoded = feature.encode("utf-8", errors="surrogatepass")
    return hashlib.blake2b(encoded, digest_size=size, person=family).digest()
