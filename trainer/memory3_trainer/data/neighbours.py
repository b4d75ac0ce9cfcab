"""The reference of every chunk of a pack, found once before training.

Source: paper §7: each 64-token chunk retrieves one reference, searched with the chunk's own text;
one that says nearly the same as the text around it is dropped (`overlap`). Found by the embedder
and the index of the services.
A folder: ``neighbours.npy`` [num_chunks] int32, the row of each chunk's reference or -1, and
``neighbours.json``. Made in pieces that are kept, so that a killed pass goes on; the bytes are the
same however often it was killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from tokenizers import Tokenizer

from memory3.data.finder import Finder
from memory3.data.overlap import OverlapFilter
from memory3.embedders.base import Embedder
from memory3.errors import CheckpointMismatchError, CorruptDataError, InvalidArgumentError
from memory3_trainer.data.packing import PackedText
from memory3_trainer.data.reference_store import ReferenceStore
from memory3_trainer.tokenizer import END

NONE = -1
CHUNKS_READING = 5  # a reference is read by its chunk and the four after (paper §7)
_ROWS, _FACTS, _FORMAT = "neighbours.npy", "neighbours.json", 1
PIECE = 4096  # chunks of a piece: what a kill loses at most
_QUERIES = 512  # chunks searched at a time


@dataclass(frozen=True)
class NeighbourSettings:
    """How neighbours are found.

    Attributes:
        index: Name of the index with argument.
        candidates: Found for each chunk before the filter.
        threshold: Share of overlap above which a candidate is dropped.
        exclude_same_document: Drop candidates of the documents that the chunk stands in.
        chunk_length: Tokens of a chunk.
    """

    index: str = "hnsw"
    candidates: int = 8
    threshold: Fraction = Fraction(9, 10)
    exclude_same_document: bool = False
    chunk_length: int = 64


@dataclass(frozen=True)
class NeighbourFacts:
    """What neighbours are made from.

    Attributes:
        num_found: Chunks that have a reference.
        num_dropped: Candidates that the filter dropped.
        pack: sha256 of the pack's tokens.
        references: sha256 of the references' texts.
        tokenizer: sha256 of the tokenizer of both.
        embedder: Name and digest.
        rows: sha256 of ``neighbours.npy``.
    """

    num_chunks: int
    num_found: int
    num_dropped: int
    pack: str
    references: str
    tokenizer: str
    embedder: tuple[str, str]
    settings: dict[str, Any]
    rows: str
    format: int = _FORMAT


class Neighbours:
    """Opened neighbours.

    Attributes:
        facts: What they are made from.
        rows: [num_chunks] int32, memory-mapped; `NONE` where a chunk has no reference.
    """

    def __init__(self, facts: NeighbourFacts, rows: NDArray[np.int32]) -> None:
        self.facts, self.rows = facts, rows

    @classmethod
    def open(cls, path: Path, pack: PackedText, store: ReferenceStore) -> Neighbours:
        """Open neighbours for a pack and its references.

        Raises:
            InvalidArgumentError: There are none.
            CorruptDataError: They cannot be read.
            CheckpointMismatchError: They were found for another pack or other references.
        """
        try:
            values = json.loads((path / _FACTS).read_text(encoding="utf-8"))
            facts = NeighbourFacts(**{**values, "embedder": tuple(values["embedder"])})
            rows = open_memmap(path / _ROWS, mode="r")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InvalidArgumentError(
                f"{path.name} holds no neighbours",
                field="neighbours",
                remedy="find them: python -m memory3_trainer data neighbours",
            ) from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise _broken(path) from error
        if rows.shape != (facts.num_chunks,) or rows.dtype != np.int32:
            raise _broken(path)
        met = {"pack": pack.facts.tokens, "references": store.facts.texts}
        for field, actual in met.items():
            if getattr(facts, field) != actual:
                raise CheckpointMismatchError(
                    f"{path.name} was found for another {field.removesuffix('s')}",
                    field=field,
                    remedy="find the neighbours again: python -m memory3_trainer data neighbours",
                    expected=actual,
                    actual=getattr(facts, field),
                )
        return cls(facts, rows)


def find_neighbours(
    pack: PackedText,
    store: ReferenceStore,
    tokenizer: Tokenizer,
    embedder: Embedder,
    out: Path,
    settings: NeighbourSettings,
    *,
    piece: int = PIECE,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> NeighbourFacts:
    """Find the reference of every chunk; a pass that was killed goes on where it stood.

    Args:
        pack: The text.
        store: The references.
        tokenizer: Made both.
        embedder: Embeds both.
        out: Folder to make; what is there already is replaced.
        settings: How.
        piece: Chunks that are kept together; a kill loses at most so many.
        progress: Told what is done, how much of it and how much there is.

    Raises:
        InvalidArgumentError: The pack has no whole chunk, or the place is taken.
        CheckpointMismatchError: Pack and references are of different tokenizers.
    """
    _check(pack, store, out, settings)
    facts = {
        "pack": pack.facts.tokens,
        "references": store.facts.texts,
        "tokenizer": pack.facts.tokenizer,
        "embedder": (embedder.name, embedder.digest),
        "settings": {**asdict(settings), "threshold": str(settings.threshold)},
    }
    number = hashlib.sha256(json.dumps([facts, _FORMAT, piece]).encode()).hexdigest()[:16]
    # Work of other settings or data is never taken up: its folder has another name.
    work = out.parent / f".{out.name}-{number}"
    work.mkdir(parents=True, exist_ok=True)
    total = len(pack) // settings.chunk_length
    starts = range(0, total, piece)
    missing = [start for start in starts if not (work / f"{start}.npy").exists()]
    progress("chunks", total - sum(min(piece, total - start) for start in missing), total)
    if missing:
        finder = Finder(embedder, settings.index, work / "index")
        finder.fill(store.search_text, len(store), lambda n: progress("references", n, len(store)))
        search = _Search(pack, store, tokenizer, finder, settings)
        for start in missing:
            stop = min(total, start + piece)
            _save(work / f"{start}.npy", search.piece(start, stop))
            progress("chunks", stop, total)
        finder.close()
    pieces = np.concatenate([np.load(work / f"{start}.npy") for start in starts])
    return _publish(work, out, pieces, facts)


class _Search:
    def __init__(
        self,
        pack: PackedText,
        store: ReferenceStore,
        tokenizer: Tokenizer,
        finder: Finder,
        settings: NeighbourSettings,
    ) -> None:
        self._pack, self._store, self._tokenizer = pack, store, tokenizer
        self._finder, self._settings = finder, settings
        self._end = cast(int, tokenizer.token_to_id(END))

    def piece(self, start: int, stop: int) -> NDArray[np.int32]:
        """[stop - start, 2]: for each chunk its reference, and how many were dropped before it."""
        rows = np.empty((stop - start, 2), dtype=np.int32)
        for first in range(start, stop, _QUERIES):
            chunks = range(first, min(stop, first + _QUERIES))
            found = self._finder.find(self._texts(chunks), self._settings.candidates)
            for chunk, candidates in zip(chunks, found, strict=True):
                rows[chunk - start] = self._first_fair(chunk, candidates)
        return rows

    def _texts(self, chunks: range) -> list[str]:
        """The texts of chunks; where a document ends inside of one, a line does."""
        parts: list[list[int]] = []
        owners: list[int] = []
        length = self._settings.chunk_length
        for chunk in chunks:
            tokens = self._pack.tokens(chunk * length, (chunk + 1) * length)
            for part in np.split(tokens, np.flatnonzero(tokens == self._end)):
                parts.append([token for token in part.tolist() if token != self._end])
                owners.append(chunk - chunks.start)
        lines: list[list[str]] = [[] for _ in chunks]
        for owner, text in zip(owners, self._tokenizer.decode_batch(parts), strict=True):
            lines[owner].append(text)
        return ["\n".join(line for line in group if line) for group in lines]

    def _first_fair(self, chunk: int, candidates: list[int]) -> tuple[int, int]:
        length, margin = self._settings.chunk_length, self._store.facts.reference_length
        start = chunk * length
        # All that reads this reference, and as much around as a reference reaches over.
        text = self._pack.tokens(start - margin, start + CHUNKS_READING * length + margin).tolist()
        own: set[int] = set()
        if self._settings.exclude_same_document:
            own = set(self._pack.documents(start, start + length).tolist())
        for dropped, row in enumerate(candidates):
            reference = self._store.tokens(row).tolist()
            if self._store.document(row) in own:
                continue
            if not OverlapFilter(reference, self._settings.threshold).exceeds(text):
                return row, dropped
        return NONE, len(candidates)


def _check(pack: PackedText, store: ReferenceStore, out: Path, settings: NeighbourSettings) -> None:
    if pack.facts.tokenizer != store.facts.tokenizer:
        raise CheckpointMismatchError(
            "pack and references were made with different tokenizers",
            field="tokenizer",
            remedy="make both with the same tokenizer",
            expected=pack.facts.tokenizer,
            actual=store.facts.tokenizer,
        )
    if len(pack) < settings.chunk_length:
        raise InvalidArgumentError(
            f"the pack's {len(pack)} tokens are less than a chunk", field="pack"
        )
    if settings.candidates < 1 or settings.threshold <= 0:
        raise InvalidArgumentError(
            "candidates and threshold must be above 0", field="candidates, threshold"
        )
    if settings.exclude_same_document:
        pack.documents(0, 1)  # refuses now, not after hours
    if out.exists() and not (out / _FACTS).is_file():
        raise InvalidArgumentError(
            f"{out.name} is there and holds no neighbours", field="out", remedy="give another place"
        )


def _save(path: Path, rows: NDArray[np.int32]) -> None:
    staged = path.with_suffix(".new")
    with staged.open("wb") as file:
        np.save(file, rows)
        file.flush()
        os.fsync(file.fileno())
    staged.rename(path)


def _publish(
    work: Path, out: Path, pieces: NDArray[np.int32], found_from: dict[str, Any]
) -> NeighbourFacts:
    staged = work / out.name
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    rows, dropped = np.ascontiguousarray(pieces[:, 0]), pieces[:, 1]
    _save(staged / _ROWS, rows)
    facts = NeighbourFacts(
        num_chunks=len(rows),
        num_found=int(np.count_nonzero(rows != NONE)),
        num_dropped=int(dropped.sum()),
        rows=hashlib.sha256((staged / _ROWS).read_bytes()).hexdigest(),
        **found_from,
    )
    (staged / _FACTS).write_text(json.dumps(asdict(facts), indent=2), encoding="utf-8")
    if out.exists():
        shutil.rmtree(out)
    staged.rename(out)
    shutil.rmtree(work)
    return facts


def _broken(path: Path) -> CorruptDataError:
    return CorruptDataError(
        f"{path.name} cannot be read",
        field="neighbours",
        remedy="find the neighbours again: python -m memory3_trainer data neighbours",
    )
