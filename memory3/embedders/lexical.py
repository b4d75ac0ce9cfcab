"""The lexical embedder: tf·idf over words and their spelling, hashed into a short dense vector.

Self-contained: nothing is downloaded, no torch, and training counts words once. It finds texts
that share rare words with the query, such as names, and knows nothing of synonyms. What was
measured to choose its numbers is in ``docs/experiments/embedder.md``. It must not know banks.
"""

from __future__ import annotations

import json
import math
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from memory3.embedders.base import Embedder, TextKind, Vectors, check_kind, digest_of, unit_rows
from memory3.embedders.words import split_words, word_direction, word_key
from memory3.errors import (
    CheckpointFormatError,
    CheckpointMissingFileError,
    InvalidArgumentError,
)

CONFIG_FILE = "lexical.json"
IDF_FILE = "idf.safetensors"
MAX_CHARACTERS = 65_536
DEFAULT_DIMENSIONS = 384

_FORMAT = 1
_MIN_DIMENSIONS, _MAX_DIMENSIONS = 32, 8192
# What a word's spelling weighs beside the word itself.
_GRAM_WEIGHT = 1.0
# A word's weight grows to (1 + this) times the first occurrence's, however often it comes.
_TF_SATURATION = 1.0
# A word of a single training text is as good as unseen; leaving it out halves the table.
_MIN_TEXTS = 2
_CACHED_WORDS = 16_384
_ROWS_PER_SUM = 2_048


class LexicalEmbedder(Embedder):
    """tf·idf with signed feature hashing; make one with ``train`` or ``from_checkpoint``.

    Args:
        dimensions: The length of a vector, 32 to 8192.
        num_texts: How many texts the frequencies were counted in.
        keys: ``[num_words]`` uint32, ascending: the words' keys (``words.word_key``).
        idf: ``[num_words]`` float16: their inverse document frequencies.

    Raises:
        InvalidArgumentError: An argument is out of range or the tables do not fit together.
    """

    name = "lexical"

    def __init__(
        self,
        dimensions: int,
        num_texts: int,
        keys: NDArray[np.uint32],
        idf: NDArray[np.float16],
    ) -> None:
        _check(dimensions, num_texts, keys, idf)
        self.dimensions = dimensions
        self._num_texts = num_texts
        self._keys = keys
        self._idf = idf
        self._unseen_idf = _inverse_frequency(0, num_texts)
        self._lock = threading.Lock()
        self._rows: dict[str, int] = {}
        self._directions = np.empty((256, dimensions), np.float32)
        self.digest = digest_of(self.files())

    @classmethod
    def train(cls, texts: Iterable[str], *, dimensions: int = DEFAULT_DIMENSIONS) -> Self:
        """Count in how many texts each word occurs.

        Args:
            texts: Texts of the kind that will be searched, mixed with ordinary ones; each counts
                once, so a long one should be given in parts of a reference's length.
            dimensions: The length of a vector.

        Raises:
            InvalidArgumentError: There is no text, or ``dimensions`` is out of range.
        """
        counts: Counter[str] = Counter()
        num_texts = 0
        for text in texts:
            counts.update(set(split_words(text)))
            num_texts += 1
        by_key: Counter[int] = Counter()
        for word, count in counts.items():
            by_key[word_key(word)] += count
        frequent = sorted(key for key, count in by_key.items() if count >= _MIN_TEXTS)
        idf = [_inverse_frequency(min(by_key[key], num_texts), num_texts) for key in frequent]
        return cls(dimensions, num_texts, np.array(frequent, "<u4"), np.array(idf, "<f2"))

    @classmethod
    def flat(cls, *, dimensions: int = DEFAULT_DIMENSIONS) -> Self:
        """An embedder that has counted nothing: all words weigh the same.

        Args:
            dimensions: The length of a vector.

        Raises:
            InvalidArgumentError: ``dimensions`` is out of range.
        """
        return cls(dimensions, 1, np.empty(0, "<u4"), np.empty(0, "<f2"))

    @classmethod
    def from_checkpoint(cls, embedder_dir: Path | None, argument: str | None) -> Self:
        """Load what ``files`` gave.

        Args:
            embedder_dir: Where the files are.
            argument: Must be None: this embedder takes none.

        Raises:
            InvalidArgumentError: There is an argument.
            CheckpointMissingFileError: The directory or a file is not there.
            CheckpointFormatError: A file cannot be read or contradicts the other.
        """
        if argument is not None:
            raise InvalidArgumentError(
                f"the lexical embedder takes no argument, not {argument!r}",
                field="embedder",
                remedy="write lexical",
            )
        dimensions, num_texts = _read_config(_read(embedder_dir, CONFIG_FILE))
        try:
            tables = load_tensors(_read(embedder_dir, IDF_FILE))
            keys, idf = tables["keys"], tables["idf"]
        except (SafetensorError, KeyError, ValueError) as error:
            raise _broken(IDF_FILE, f"it holds no tables of keys and idf: {error}") from error
        try:
            return cls(dimensions, num_texts, keys, idf)
        except InvalidArgumentError as error:
            raise _broken(IDF_FILE, str(error)) from error

    def files(self) -> dict[str, bytes]:
        """The files of a checkpoint's ``embedder/`` directory, by name."""
        config = {
            "format": _FORMAT,
            "kind": self.name,
            # Fixed for this format; here so that a change of them changes the digest.
            "gram_weight": _GRAM_WEIGHT,
            "tf_saturation": _TF_SATURATION,
            "dimensions": self.dimensions,
            "num_texts": self._num_texts,
        }
        return {
            CONFIG_FILE: (json.dumps(config, indent=2) + "\n").encode(),
            IDF_FILE: save_tensors({"keys": self._keys, "idf": self._idf}),
        }

    def idf(self, word: str) -> float:
        """The inverse document frequency of a word as ``split_words`` gives it."""
        key = word_key(word)
        place = int(np.searchsorted(self._keys, np.uint32(key)))
        if place < len(self._keys) and int(self._keys[place]) == key:
            return float(self._idf[place])
        return self._unseen_idf

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """See ``Embedder.embed``; the kind makes no difference, and 65,536 characters count."""
        check_kind(kind)
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            counts = Counter(split_words(text[:MAX_CHARACTERS]))
            words = list(counts)
            for start in range(0, len(words), _ROWS_PER_SUM):
                part = words[start : start + _ROWS_PER_SUM]
                vectors[row] += self._sum(part, [counts[word] for word in part])
        return unit_rows(vectors)

    def _sum(self, words: Sequence[str], counts: Sequence[int]) -> Vectors:
        occurrences = np.array(counts, np.float32)
        weights = occurrences * (_TF_SATURATION + 1.0) / (occurrences + _TF_SATURATION)
        with self._lock:
            if len(self._rows) + len(words) > _CACHED_WORDS:
                self._rows.clear()
            rows = [self._row(word) for word in words]
            return weights.astype(np.float32) @ self._directions[rows]

    def _row(self, word: str) -> int:
        row = self._rows.get(word)
        if row is None:
            row = len(self._rows)
            if row == len(self._directions):
                spare = np.empty_like(self._directions)
                self._directions = np.concatenate((self._directions, spare))
            direction = word_direction(word, self.dimensions, _GRAM_WEIGHT)
            self._directions[row] = direction * np.float32(self.idf(word))
            self._rows[word] = row
        return row


def _inverse_frequency(count: int, num_texts: int) -> float:
    # Rounded as the table stores it, so that a trained embedder equals the loaded one.
    return float(np.float16(math.log((num_texts + 1.0) / (count + 0.5))))


def _check(dimensions: int, num_texts: int, keys: Any, idf: Any) -> None:
    if not _MIN_DIMENSIONS <= dimensions <= _MAX_DIMENSIONS:
        raise InvalidArgumentError(
            f"{dimensions} is not between {_MIN_DIMENSIONS} and {_MAX_DIMENSIONS}",
            field="dimensions",
        )
    if num_texts < 1:
        raise InvalidArgumentError(
            "there is no text to count words in", field="texts", remedy="give at least one"
        )
    if keys.dtype != np.uint32 or idf.dtype != np.float16 or keys.ndim != 1:
        raise InvalidArgumentError("keys must be uint32 and idf float16, one-dimensional")
    if keys.shape != idf.shape:
        raise InvalidArgumentError(f"{keys.shape} keys do not fit {idf.shape} frequencies")
    if np.any(keys[1:] <= keys[:-1]) or not np.all(np.isfinite(idf)) or np.any(idf < 0):
        raise InvalidArgumentError("keys must ascend, and frequencies be finite and not negative")


def _read(directory: Path | None, name: str) -> bytes:
    path = directory / name if directory is not None else None
    if path is None or not path.is_file():
        raise CheckpointMissingFileError(
            f"the checkpoint has no embedder/{name}, which the lexical embedder needs",
            field=f"embedder/{name}",
            remedy="choose another embedder, or a checkpoint that carries this one",
        )
    return path.read_bytes()


def _read_config(data: bytes) -> tuple[int, int]:
    """Dimensions and number of texts."""
    try:
        config = json.loads(data)
    except ValueError as error:
        raise _broken(CONFIG_FILE, f"it is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise _broken(CONFIG_FILE, "it is not a JSON object")
    fixed = {"format": _FORMAT, "gram_weight": _GRAM_WEIGHT, "tf_saturation": _TF_SATURATION}
    for field, value in fixed.items():
        if config.get(field) != value:
            raise _broken(CONFIG_FILE, f"{field} is {config.get(field)!r}, not {value}")
    dimensions, num_texts = config.get("dimensions"), config.get("num_texts")
    if type(dimensions) is not int or not _MIN_DIMENSIONS <= dimensions <= _MAX_DIMENSIONS:
        raise _broken(CONFIG_FILE, f"dimensions is {dimensions!r}")
    if type(num_texts) is not int or num_texts < 1:
        raise _broken(CONFIG_FILE, f"num_texts is {num_texts!r}")
    return dimensions, num_texts


def _broken(name: str, message: str) -> CheckpointFormatError:
    return CheckpointFormatError(
        f"embedder/{name} cannot be used: {message}",
        field=f"embedder/{name}",
        remedy="copy the checkpoint again",
    )
