"""The exact index: every query against every vector, in one matrix product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from memory3.errors import InvalidArgumentError
from memory3_retriever.indexes.base import SCORE_DECIMALS, Hit, Index, IndexState, Vectors

# Scores held at once, 64 MiB: bounds the memory of a search over many queries and vectors.
_MAX_SCORES = 1 << 24
_FIRST_CAPACITY = 1024

_Halves = npt.NDArray[np.uint64]
_Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class ExactView:
    """An exact index as it was after one change; later changes leave it as it is.

    The arrays are shared with later views, which only ever write behind ``num_rows``.

    Attributes:
        vectors: [capacity, dimensions], unit rows.
        key_halves: [capacity, 2], the keys as numbers, for ordering ties.
        keys: The keys, at least ``num_rows`` of them.
        num_rows: How many rows belong to this view.
        dead: The rows among them that were removed.
    """

    vectors: Vectors
    key_halves: _Halves
    keys: list[bytes]
    num_rows: int
    dead: _Rows

    @classmethod
    def empty(cls, capacity: int, dimensions: int) -> ExactView:
        """A view without rows, and room for so many."""
        return cls(
            np.empty((capacity, dimensions), dtype=np.float32),
            np.empty((capacity, 2), dtype=np.uint64),
            [],
            0,
            np.empty(0, dtype=np.intp),
        )

    def search(self, queries: Vectors, k: int) -> list[list[Hit]]:
        """The hits of unit queries."""
        num_live = self.num_rows - len(self.dead)
        if num_live == 0:
            return [[] for _ in queries]
        matrix = self.vectors[: self.num_rows]
        block = max(1, _MAX_SCORES // self.num_rows)
        hits: list[list[Hit]] = []
        for start in range(0, len(queries), block):
            scores = queries[start : start + block] @ matrix.T
            np.round(scores, SCORE_DECIMALS, out=scores)
            scores[:, self.dead] = -np.inf
            hits.extend(self._best(row, min(k, num_live)) for row in scores)
        return hits

    def _best(self, scores: Vectors, k: int) -> list[Hit]:
        """All above the k-th best score, then those equal to it in the order of their keys."""
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        rows = np.flatnonzero(scores >= threshold)
        halves = self.key_halves[rows]
        order = np.lexsort((halves[:, 1], halves[:, 0], -scores[rows]))[:k]
        return [Hit(self.keys[row], float(scores[row])) for row in rows[order]]


class ExactIndex(Index):
    """Finds exactly the nearest vectors. Keeps nothing on disk; takes no argument."""

    name: ClassVar[str] = "exact"
    exact: ClassVar[bool] = True

    def __init__(
        self, dimensions: int, *, argument: str | None = None, folder: Path | None = None
    ) -> None:
        super().__init__(dimensions, argument=argument, folder=folder)
        if argument is not None:
            raise InvalidArgumentError(
                f"the exact index takes no argument, not {argument[:100]!r}",
                field="index",
                remedy='use "exact"',
            )
        self._rows: dict[bytes, int] = {}
        self.view = ExactView.empty(_FIRST_CAPACITY, dimensions)

    def keys(self) -> set[bytes]:
        """The keys of all vectors."""
        return set(self._rows)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def state(self) -> IndexState:
        """All vectors are in the base; rows of deleted ones are used again before long."""
        view = self.view
        return IndexState(
            num_vectors=view.num_rows,
            num_deleted=len(view.dead),
            memory_bytes=view.vectors.nbytes + view.key_halves.nbytes,
        )

    def rows_of(self, keys: Sequence[bytes]) -> Vectors:
        """The unit vectors of keys that are there, [len(keys), dimensions]."""
        return self.view.vectors[[self._rows[key] for key in keys]]

    def _add(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        if self.view.num_rows + len(keys) > len(self.view.vectors):
            self._move(max(2 * len(self), len(self) + len(keys), _FIRST_CAPACITY))
        view = self.view
        start, end = view.num_rows, view.num_rows + len(keys)
        view.vectors[start:end] = vectors
        view.key_halves[start:end] = _halves(keys)
        view.keys.extend(keys)
        self._rows.update(zip(keys, range(start, end), strict=True))
        self.view = ExactView(view.vectors, view.key_halves, view.keys, end, view.dead)

    def _remove(self, keys: set[bytes]) -> None:
        view = self.view
        removed = np.array([self._rows.pop(key) for key in keys], dtype=np.intp)
        dead = np.sort(np.append(view.dead, removed))
        if len(dead) * 4 > view.num_rows:
            self._move(max(len(self), _FIRST_CAPACITY))
        else:
            self.view = ExactView(view.vectors, view.key_halves, view.keys, view.num_rows, dead)

    def _search(self, queries: Vectors, k: int) -> list[list[Hit]]:
        return self.view.search(queries, k)

    def _move(self, capacity: int) -> None:
        """Into new arrays, without the rows that were removed."""
        old, new = self.view, ExactView.empty(capacity, self.dimensions)
        live = sorted(self._rows.items(), key=lambda item: item[1])
        rows = [row for _, row in live]
        new.vectors[: len(rows)] = old.vectors[rows]
        new.key_halves[: len(rows)] = old.key_halves[rows]
        new.keys.extend(key for key, _ in live)
        self._rows = {key: row for row, key in enumerate(new.keys)}
        self.view = ExactView(new.vectors, new.key_halves, new.keys, len(rows), new.dead)


def _halves(keys: Sequence[bytes]) -> _Halves:
    """The first 16 bytes of each key as two big-endian numbers, ordered as the bytes are."""
    padded = b"".join(key[:16].ljust(16, b"\0") for key in keys)
    return np.frombuffer(padded, dtype=">u8").reshape(-1, 2).astype(np.uint64)
