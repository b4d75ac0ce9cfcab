"""Text as one long row of tokens on disk, read in windows.

A pack is a folder: ``tokens.bin`` (little-endian, two bytes a token where the vocabulary allows),
``documents.bin`` (of each document where it ends, and its key) and ``pack.json`` (what it was made
from). Documents follow one another, each ended by ``</s>``.
Windows do not overlap, and any of them can be read directly, so that training goes on at any step
without a state of its own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from memory3.data.documents import Document
from memory3.errors import CheckpointMismatchError, CorruptDataError, InvalidArgumentError
from memory3_trainer.tokenizer import END

_TOKENS, _DOCUMENTS, _FACTS, _FORMAT = "tokens.bin", "documents.bin", "pack.json", 1
_BATCH = 256  # documents tokenized at a time
DTYPES = ("<u2", "<u4")


@dataclass(frozen=True)
class PackFacts:
    """What a pack is made from.

    Attributes:
        tokenizer: sha256 of the tokenizer.
        tokens: sha256 of ``tokens.bin``.
        sources: Names of the files that the texts came from.
    """

    num_tokens: int
    num_documents: int
    num_bytes: int
    dtype: str
    tokenizer: str
    tokens: str
    sources: tuple[str, ...]
    format: int = _FORMAT


class PackedText:
    """An opened pack.

    Attributes:
        facts: What it is made from.
    """

    def __init__(self, path: Path, facts: PackFacts) -> None:
        self.path, self.facts = path, facts
        self._tokens = np.memmap(path / _TOKENS, dtype=np.dtype(facts.dtype), mode="r")
        self._borders: NDArray[np.int64] | None = None

    @classmethod
    def open(cls, path: Path, tokenizer: Tokenizer | None = None) -> PackedText:
        """Open a pack.

        Args:
            path: Its folder.
            tokenizer: The one that training uses; None does not compare.

        Raises:
            InvalidArgumentError: There is no pack.
            CorruptDataError: Its files do not belong together.
            CheckpointMismatchError: It was made with another tokenizer.
        """
        try:
            values = json.loads((path / _FACTS).read_text(encoding="utf-8"))
            facts = PackFacts(**{**values, "sources": tuple(values["sources"])})
        except FileNotFoundError as error:
            raise InvalidArgumentError(
                f"{path.name} is no pack",
                field="pack",
                remedy="make one: python -m memory3_trainer data pack",
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptDataError(
                f"{path.name}/{_FACTS} cannot be read", field=_FACTS, remedy="make the pack again"
            ) from error
        if facts.dtype not in DTYPES:
            raise CorruptDataError(
                f"{facts.dtype!r} is no format of tokens",
                field=_FACTS,
                remedy="make the pack again",
            )
        size = facts.num_tokens * np.dtype(facts.dtype).itemsize
        if not (path / _TOKENS).is_file() or (path / _TOKENS).stat().st_size != size:
            raise CorruptDataError(
                f"{path.name}/{_TOKENS} has not the {size} bytes that {_FACTS} tells of",
                field=_TOKENS,
                remedy="make the pack again",
            )
        if tokenizer is not None and tokenizer_digest(tokenizer) != facts.tokenizer:
            raise CheckpointMismatchError(
                f"{path.name} was made with another tokenizer",
                field="tokenizer",
                remedy="make the pack again with the tokenizer of this model",
                metadata={"expected": tokenizer_digest(tokenizer), "actual": facts.tokenizer},
            )
        return cls(path, facts)

    def __len__(self) -> int:
        return self.facts.num_tokens

    def num_windows(self, length: int) -> int:
        """Whole windows of a length."""
        return len(self) // length

    def window(self, number: int, length: int) -> NDArray[np.int64]:
        """Tokens number·length to (number + 1)·length - 1."""
        if not 0 <= number < self.num_windows(length):
            raise IndexError(number)
        return self.tokens(number * length, (number + 1) * length)

    def tokens(self, start: int, stop: int) -> NDArray[np.int64]:
        """Tokens start to stop - 1, as far as there are any."""
        return self._tokens[max(0, start) : max(0, stop)].astype(np.int64)

    def documents(self, start: int, stop: int) -> NDArray[np.int64]:
        """The keys of the documents that some of the tokens start to stop - 1 belong to.

        Raises:
            InvalidArgumentError: The pack was made without `documents.bin`.
            CorruptDataError: It has not as many documents as the pack.
        """
        if self._borders is None:
            try:
                table = np.fromfile(self.path / _DOCUMENTS, dtype="<i8")
            except OSError as error:
                raise InvalidArgumentError(
                    f"{self.path.name} does not say where its documents end",
                    field=_DOCUMENTS,
                    remedy="make the pack again",
                ) from error
            if table.size != 2 * self.facts.num_documents:
                raise CorruptDataError(
                    f"{self.path.name}/{_DOCUMENTS} has not the {self.facts.num_documents} "
                    f"documents that {_FACTS} tells of",
                    field=_DOCUMENTS,
                    remedy="make the pack again",
                )
            self._borders = table.reshape(-1, 2)
        ends = self._borders[:, 0]
        first = int(np.searchsorted(ends, start, side="right"))
        last = int(np.searchsorted(ends, stop - 1, side="right"))
        keys: NDArray[np.int64] = self._borders[first : last + 1, 1]
        return keys


def pack_texts(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    out: Path,
    *,
    sources: Iterable[str] = (),
    min_tokens: int = 1,
    progress: Callable[[int, int], None] = lambda documents, tokens: None,
) -> PackFacts:
    """Tokenize documents into a pack, beside its place first and moved there whole.

    Args:
        documents: What to pack; titles stand in a line above the text.
        tokenizer: Has the end token.
        out: Folder to make; a pack of the same tokenizer is replaced.
        sources: Names for `PackFacts`.
        min_tokens: Shorter documents are left out.
        progress: Told documents and tokens so far.

    Raises:
        InvalidArgumentError: There is nothing to pack, or the place is taken by something else.
        CheckpointMismatchError: The place holds a pack of another tokenizer.
    """
    if out.exists():
        PackedText.open(out, tokenizer)
    end = cast(int, tokenizer.token_to_id(END))
    dtype = np.dtype("<u2" if tokenizer.get_vocab_size() <= 1 << 16 else "<u4")
    out.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    num_tokens = num_documents = num_bytes = 0
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        staged = Path(temporary) / out.name
        staged.mkdir()
        with (staged / _TOKENS).open("wb") as file, (staged / _DOCUMENTS).open("wb") as borders:
            for document, ids in _tokenized(documents, tokenizer):
                if len(ids) < min_tokens:
                    continue
                data = np.asarray([*ids, end], dtype=dtype).tobytes()
                digest.update(data)
                file.write(data)
                num_tokens += len(ids) + 1
                num_documents += 1
                num_bytes += len(_text_of(document).encode())
                borders.write(np.array([num_tokens, document.key], dtype="<i8").tobytes())
                progress(num_documents, num_tokens)
        if not num_tokens:
            raise InvalidArgumentError(
                "there is nothing to pack", field="texts", remedy="give files that hold text"
            )
        facts = PackFacts(
            num_tokens, num_documents, num_bytes, dtype.str, tokenizer_digest(tokenizer),
            digest.hexdigest(), tuple(sources),
        )  # fmt: skip
        (staged / _FACTS).write_text(json.dumps(asdict(facts), indent=2), encoding="utf-8")
        if out.exists():
            shutil.move(out, Path(temporary) / "replaced")
        staged.rename(out)
    return facts


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """sha256 of a tokenizer as it is stored."""
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()


def _tokenized(
    documents: Iterable[Document], tokenizer: Tokenizer
) -> Iterator[tuple[Document, list[int]]]:
    remaining = iter(documents)
    while batch := list(islice(remaining, _BATCH)):
        texts = [_text_of(document) for document in batch]
        encoded: list[Any] = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        yield from zip(batch, (part.ids for part in encoded), strict=True)


def _text_of(document: Document) -> str:
    above = f"{document.title}\n\n" if document.title else ""
    return above + document.text.strip()
