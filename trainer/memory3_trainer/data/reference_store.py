"""References for training on disk: tokens, texts and where each begins.

A folder: ``tokens.bin`` and ``offsets.npy`` (tokens of reference i stand between offsets i and
i + 1), ``texts.jsonl`` and ``lines.npy`` (title, heading and text, one line each),
``documents.npy`` (the key of the document that each was cut from) and ``references.json``. Cut by
the retriever's own splitter. Memory-mapped, so a store may be larger than memory.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from tokenizers import Tokenizer

from memory3.data.documents import Document
from memory3.documents.splitter import Splitter
from memory3.embedders.base import search_text
from memory3.errors import CheckpointMismatchError, CorruptDataError, InvalidArgumentError
from memory3_trainer.data.packing import DTYPES, tokenizer_digest

_TOKENS, _OFFSETS, _TEXTS, _LINES = "tokens.bin", "offsets.npy", "texts.jsonl", "lines.npy"
_DOCUMENTS, _FACTS, _FORMAT = "documents.npy", "references.json", 1
_BATCH = 64  # documents cut before their references are tokenized together


@dataclass(frozen=True)
class StoreFacts:
    """What a store is made from.

    Attributes:
        reference_length: Most tokens of a reference.
        tokenizer: sha256 of the tokenizer.
        texts: sha256 of ``texts.jsonl``; with the tokenizer it fixes everything else.
        sources: Names of the files that the texts came from.
    """

    num_references: int
    num_tokens: int
    reference_length: int
    dtype: str
    tokenizer: str
    texts: str
    sources: tuple[str, ...]
    format: int = _FORMAT


class ReferenceStore:
    """An opened store.

    Attributes:
        facts: What it is made from.
    """

    def __init__(self, path: Path, facts: StoreFacts) -> None:
        self.path, self.facts = path, facts
        self._tokens = np.memmap(path / _TOKENS, dtype=np.dtype(facts.dtype), mode="r")
        self._offsets = open_memmap(path / _OFFSETS, mode="r")
        self._lines = open_memmap(path / _LINES, mode="r")
        self._documents = open_memmap(path / _DOCUMENTS, mode="r")
        self._texts = np.memmap(path / _TEXTS, dtype=np.uint8, mode="r")

    @classmethod
    def open(cls, path: Path, tokenizer: Tokenizer | None = None) -> ReferenceStore:
        """Open a store.

        Args:
            path: Its folder.
            tokenizer: The one that training uses; None does not compare.

        Raises:
            InvalidArgumentError: There is no store.
            CorruptDataError: Its files do not belong together.
            CheckpointMismatchError: It was made with another tokenizer.
        """
        try:
            values = json.loads((path / _FACTS).read_text(encoding="utf-8"))
            facts = StoreFacts(**{**values, "sources": tuple(values["sources"])})
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InvalidArgumentError(
                f"{path.name} holds no references",
                field="references",
                remedy="make them: python -m memory3_trainer data references",
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise _broken(path, _FACTS) from error
        if facts.dtype not in DTYPES:
            raise _broken(path, f"{facts.dtype!r} is no format of tokens")
        try:
            store = cls(path, facts)
        except (OSError, ValueError) as error:
            raise _broken(path, str(error)) from error
        if not store._is_whole():
            raise _broken(path, "its files are not as long as they have to be")
        if tokenizer is not None and tokenizer_digest(tokenizer) != facts.tokenizer:
            raise CheckpointMismatchError(
                f"{path.name} was made with another tokenizer",
                field="tokenizer",
                remedy="make the references again with the tokenizer of this model",
                expected=tokenizer_digest(tokenizer),
                actual=facts.tokenizer,
            )
        return store

    def __len__(self) -> int:
        return self.facts.num_references

    def tokens(self, number: int) -> NDArray[np.int64]:
        """The tokens of a reference."""
        start, stop = self._offsets[number], self._offsets[number + 1]
        return self._tokens[start:stop].astype(np.int64)

    def text(self, number: int) -> str:
        """The text of a reference."""
        return self._record(number)["text"]

    def search_text(self, number: int) -> str:
        """What is embedded to find it, as the services do: title and heading above the text."""
        record = self._record(number)
        return search_text(record["title"], record["heading"], record["text"])

    def document(self, number: int) -> int:
        """The key of the document that it was cut from."""
        return int(self._documents[number])

    def _record(self, number: int) -> dict[str, str]:
        start, stop = self._lines[number], self._lines[number + 1]
        record: dict[str, str] = json.loads(self._texts[start:stop].tobytes())
        return record

    def _is_whole(self) -> bool:
        count = len(self)
        return (
            len(self._offsets) == len(self._lines) == count + 1
            and len(self._documents) == count
            and int(self._offsets[-1]) == len(self._tokens) == self.facts.num_tokens
            and int(self._lines[-1]) == len(self._texts)
        )


def write_references(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    out: Path,
    *,
    reference_length: int,
    sources: Iterable[str] = (),
    progress: Callable[[int, int], None] = lambda documents, references: None,
) -> StoreFacts:
    """Cut documents into references, beside their place first and moved there whole.

    Args:
        documents: What to cut.
        tokenizer: Counts.
        out: Folder to make; a store of the same tokenizer is replaced.
        reference_length: Most tokens of a reference.
        sources: Names for `StoreFacts`.
        progress: Told documents and references so far.

    Raises:
        InvalidArgumentError: There is nothing to cut, or the place is taken by something else.
        CheckpointMismatchError: The place holds a store of another tokenizer.
    """
    if out.exists():
        ReferenceStore.open(out, tokenizer)
    out.parent.mkdir(parents=True, exist_ok=True)
    dtype = np.dtype("<u2" if tokenizer.get_vocab_size() <= 1 << 16 else "<u4")
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        staged = Path(temporary) / out.name
        staged.mkdir()
        with (staged / _TOKENS).open("wb") as tokens, (staged / _TEXTS).open("wb") as texts:
            writer = _Writer(tokens, texts, dtype)
            for count, document_references in enumerate(
                cut_documents(documents, tokenizer, reference_length), 1
            ):
                for key, record, ids in document_references:
                    writer.add(key, record, ids)
                progress(count, len(writer.documents))
        if not writer.documents:
            raise InvalidArgumentError(
                "there is nothing to cut", field="texts", remedy="give files that hold text"
            )
        np.save(staged / _OFFSETS, np.frombuffer(writer.offsets, dtype=np.int64))
        np.save(staged / _LINES, np.frombuffer(writer.lines, dtype=np.int64))
        np.save(staged / _DOCUMENTS, np.frombuffer(writer.documents, dtype=np.int64))
        facts = StoreFacts(
            len(writer.documents), writer.offsets[-1], reference_length, dtype.str,
            tokenizer_digest(tokenizer), writer.digest.hexdigest(), tuple(sources),
        )  # fmt: skip
        (staged / _FACTS).write_text(json.dumps(asdict(facts), indent=2), encoding="utf-8")
        if out.exists():
            shutil.move(out, Path(temporary) / "replaced")
        staged.rename(out)
    return facts


class _Writer:
    def __init__(self, tokens: BinaryIO, texts: BinaryIO, dtype: np.dtype[np.unsignedinteger]):
        self._tokens, self._texts, self._dtype = tokens, texts, dtype
        # 24 bytes a reference are held until the end.
        self.offsets, self.lines, self.documents = array("q", [0]), array("q", [0]), array("q")
        self.digest = hashlib.sha256()

    def add(self, document: int, record: dict[str, str], ids: list[int]) -> None:
        line = json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        self._tokens.write(np.asarray(ids, dtype=self._dtype).tobytes())
        self._texts.write(line)
        self.digest.update(line)
        self.offsets.append(self.offsets[-1] + len(ids))
        self.lines.append(self.lines[-1] + len(line))
        self.documents.append(document)


def cut_documents(
    documents: Iterable[Document], tokenizer: Tokenizer, reference_length: int
) -> Iterator[list[tuple[int, dict[str, str], list[int]]]]:
    """For each document its references: document's key, title with heading and text, tokens."""
    splitter = Splitter(tokenizer, reference_length)
    remaining = iter(documents)
    while batch := list(islice(remaining, _BATCH)):
        cut = [splitter.split(document.text) for document in batch]
        texts = [piece.text for pieces in cut for piece in pieces]
        encoded = iter(tokenizer.encode_batch_fast(texts, add_special_tokens=False))
        for document, pieces in zip(batch, cut, strict=True):
            yield [
                (
                    document.key,
                    {"title": document.title, "heading": piece.heading, "text": piece.text},
                    next(encoded).ids,
                )
                for piece in pieces
            ]


def _broken(path: Path, problem: str) -> CorruptDataError:
    return CorruptDataError(
        f"{path.name} cannot be read: {problem}",
        field="references",
        remedy="make the references again: python -m memory3_trainer data references",
    )
