"""What an index is: a derivative of a bank's vectors that finds the nearest ones.

The family ``memory3.indexes``. The truth is elsewhere: an index may forget everything at any time
and is then filled again. It must not know banks, memories or the wire.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from memory3.errors import InvalidArgumentError

Vectors = npt.NDArray[np.float32]

# Scores that agree in so many decimals are equal; their order is that of the keys.
SCORE_DECIMALS = 6


# The vectors of those of the keys that exist.
VectorsOf = Callable[[Sequence[bytes]], Mapping[bytes, Vectors]]


class Hit(NamedTuple):
    """A key that was found, and the cosine of its vector and the query."""

    key: bytes
    score: float


@dataclass(frozen=True, slots=True)
class IndexState:
    """What an index consists of at a moment.

    Attributes:
        num_vectors: Vectors in its base, deleted ones among them.
        num_delta: Vectors added since, which are searched exactly.
        num_deleted: Vectors of the base that are deleted and passed over.
        memory_bytes: What it takes of main memory, as far as it is known.
        rebuilding: Whether a new base is being built.
    """

    num_vectors: int = 0
    num_delta: int = 0
    num_deleted: int = 0
    memory_bytes: int = 0
    rebuilding: bool = False


class Index(ABC):
    """Finds the nearest of a changing set of vectors.

    Any number of threads may search while one thread at a time changes the index. A search sees
    the index as it is after some change, never half of one, and every change that had returned
    before the search began.

    Subclasses implement the methods with an underscore, which get checked, normalised input.

    Args:
        dimensions: The length of a vector.
        argument: What stands after the colon in the index's name, if anything.
        folder: Where the index may keep files; None keeps nothing.

    Attributes:
        revision: The bank's revision that the index reflects; whoever changes the index keeps it.
        vectors_of: Where an index that keeps no exact vectors reads them; whoever owns the index
            sets it before anything else is done. None where there is no such place.
        owner: Whose vectors these are. Set like ``vectors_of``; what was saved under another
            owner is not taken up.
        when_rebuilt: Called in the background whenever another base has been taken into use.
    """

    name: ClassVar[str]
    # Whether all of the nearest are found, so that measuring recall tells nothing.
    exact: ClassVar[bool] = False

    def __init__(
        self, dimensions: int, *, argument: str | None = None, folder: Path | None = None
    ) -> None:
        if dimensions < 1:
            raise InvalidArgumentError(f"{dimensions} is below 1", field="dimensions")
        self.dimensions = dimensions
        self.argument = argument
        self.folder = folder
        self.revision = 0
        self.vectors_of: VectorsOf | None = None
        self.owner = ""
        self.when_rebuilt: Callable[[], None] = lambda: None

    @abstractmethod
    def keys(self) -> set[bytes]:
        """The keys of all vectors, as a set of the caller's own."""

    def holds(self, ordered: npt.NDArray[np.bytes_]) -> bool:
        """Whether it has the vectors of exactly these keys; False where that is not told cheaply.

        Args:
            ordered: Distinct keys of 16 bytes in order, [num_keys].
        """
        return len(self) == len(ordered) == 0

    @abstractmethod
    def __contains__(self, key: bytes) -> bool: ...

    @abstractmethod
    def __len__(self) -> int: ...

    def load(self) -> None:  # noqa: B027 - an index without files has nothing to load
        """Take up what was saved, if that is whole and of this form; else stay empty."""

    def save(self) -> None:  # noqa: B027 - the same
        """Keep what can be kept for the next start.

        Raises:
            OSError: The disk failed; what was saved before is intact.
        """

    def settle(self) -> None:  # noqa: B027 - an index without a background has nothing to end
        """Wait until no work goes on in the background."""

    def tidy(self) -> None:  # noqa: B027 - the same
        """Called every second or so: begin in the background what is better done at rest."""

    def close(self) -> None:  # noqa: B027 - the same
        """Break off work in the background."""

    def state(self) -> IndexState:
        """What it consists of now."""
        return IndexState(num_vectors=len(self))

    def search_harder(self) -> str:
        """Find more from now on, at the price of time, because too little was found.

        Returns:
            What was changed, for people; empty if nothing more can be done.
        """
        return ""

    def add(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        """Add vectors; a key that is there already keeps its vector.

        Args:
            keys: One for each vector.
            vectors: [len(keys), dimensions] float32; of any length, compared by direction.

        Raises:
            InvalidArgumentError: The shape is wrong or a value is not finite.
        """
        unit = self._checked(vectors, "vectors")
        if len(keys) != len(unit):
            raise InvalidArgumentError(
                f"{len(keys)} keys for {len(unit)} vectors", field="keys", remedy="give as many"
            )
        known = self._known(keys)
        rows_by_key: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            if key not in known:
                rows_by_key.setdefault(key, row)
        if rows_by_key:
            self._add(list(rows_by_key), unit[list(rows_by_key.values())])

    def remove(self, keys: Sequence[bytes]) -> None:
        """Remove vectors; keys that are not there are passed over."""
        doomed = self._known(keys)
        if doomed:
            self._remove(doomed)

    def search(self, queries: Vectors, k: int) -> list[list[Hit]]:
        """The nearest vectors of each query.

        Args:
            queries: [num_queries, dimensions] float32, of any length.
            k: How many to find, 1 or more; fewer are found where there are no more.

        Returns:
            For each query its hits by falling score, equal scores by key. A zero query is near
            nothing and finds nothing.

        Raises:
            InvalidArgumentError: The shape is wrong, a value is not finite, or k is below 1.
        """
        if k < 1:
            raise InvalidArgumentError(f"{k} is below 1", field="k", remedy="use 1 or more")
        unit = self._checked(queries, "queries")
        answerable = np.flatnonzero(unit.any(axis=1))
        found = iter(self._search(unit[answerable], k) if len(answerable) else ())
        hits: list[list[Hit]] = [[] for _ in range(len(unit))]
        for row in answerable:
            hits[row] = next(found)
        return hits

    def _known(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of the keys that are there."""
        return {key for key in keys if key in self}

    @abstractmethod
    def _add(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        """Add new, distinct keys with their unit (or zero) vectors."""

    @abstractmethod
    def _remove(self, keys: set[bytes]) -> None:
        """Remove keys that are there."""

    @abstractmethod
    def _search(self, queries: Vectors, k: int) -> list[list[Hit]]:
        """The hits of unit queries, at least one."""

    def _checked(self, vectors: Vectors, field: str) -> Vectors:
        array = np.ascontiguousarray(vectors, dtype=np.float32)
        if array.ndim != 2 or array.shape[1] != self.dimensions:
            raise InvalidArgumentError(
                f"shape {list(array.shape)} is not [n, {self.dimensions}]",
                field=field,
                remedy="use vectors of the bank's embedder",
            )
        if not np.isfinite(array).all():
            raise InvalidArgumentError(
                "a value is not finite", field=field, remedy="use finite numbers"
            )
        return unit_rows(array)


def unit_rows(vectors: Vectors) -> Vectors:
    """The rows at length 1; rows of zeros stay as they are."""
    # Scaling by the largest component first keeps the squares of huge and tiny values finite.
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0.0)
    scaled = vectors / np.where(largest == 0, 1, largest)
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    unit: Vectors = (scaled / np.where(norms == 0, 1, norms)).astype(np.float32)
    return unit
