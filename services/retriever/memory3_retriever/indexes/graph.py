"""One immutable HNSW graph of hnswlib, with the guards that hnswlib lacks.

hnswlib raises or aborts where additions meet queries, accepts NaN, forgets ``ef`` on loading, and
raises where it finds fewer than k. So a graph never changes once it is searched: growing makes
another one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import hnswlib
import numpy as np
import numpy.typing as npt

from memory3.errors import InvalidArgumentError
from memory3_retriever.indexes.base import SCORE_DECIMALS, Hit, Vectors

METRIC = "ip"  # of unit vectors: the cosine
# What stands in place of the key of a vector that was removed before the graph was made.
TOMBSTONE = bytes(16)
_SEED = 1
# Vectors added between two looks at whether to break off.
_STEP = 1000


@dataclass(frozen=True, slots=True)
class GraphParameters:
    """How a graph is built and searched.

    Attributes:
        m: Links of a vector on each layer.
        ef_construction: Candidates kept while a vector is linked.
        ef: Candidates kept while searching; more finds more and takes longer.
        delta: Vectors that wait, searched exactly, before a graph is built of them.
        threads: Threads that build.
    """

    m: int = 32
    ef_construction: int = 200
    ef: int = 256
    delta: int = 10_000
    threads: int = 1

    @classmethod
    def parse(cls, argument: str | None) -> GraphParameters:
        """Read ``m=32,ef=256``.

        Raises:
            InvalidArgumentError: A name is not known or a value is out of its range.
        """
        values: dict[str, int] = {}
        for part in (argument or "").split(",") if argument is not None else ():
            name, _, value = part.partition("=")
            low, high = _RANGES.get(name, (1, 0))
            if not (value.isascii() and value.isdigit() and low <= int(value[:9]) <= high):
                ranges = ", ".join(f"{key}={a}..{b}" for key, (a, b) in _RANGES.items())
                raise InvalidArgumentError(
                    f"the hnsw index cannot take {part[:100]!r}",
                    field="index",
                    remedy=f'use "hnsw", or "hnsw:" and some of {ranges}, with commas between',
                )
            values[name] = int(value)
        return cls(**values)


_RANGES = {
    "m": (4, 128),
    "ef_construction": (16, 2000),
    "ef": (16, 10_000),
    "delta": (16, 1_000_000),
    "threads": (1, 256),
}


class BrokenOffError(Exception):
    """Building was asked to stop."""


class Graph:
    """Vectors by label, 0 to ``len(keys) - 1``, and the key of each label.

    Args:
        native: hnswlib's index, which nobody else changes; labels with a tombstone for a key are
            marked as deleted in it.
        keys: The key of each label.
        parameters: How it is searched.
    """

    def __init__(
        self, native: hnswlib.Index, keys: Sequence[bytes], parameters: GraphParameters
    ) -> None:
        native.set_ef(parameters.ef)
        native.set_num_threads(1)
        self.native = native
        self.keys = list(keys)
        self.label_by_key = {key: label for label, key in enumerate(self.keys) if key != TOMBSTONE}

    @classmethod
    def build(
        cls,
        keys: Sequence[bytes],
        vectors: Vectors,
        parameters: GraphParameters,
        broken_off: Callable[[], bool],
    ) -> Graph:
        """A graph of unit vectors, [len(keys), dimensions].

        Raises:
            BrokenOffError: ``broken_off`` said so.
        """
        native = hnswlib.Index(space=METRIC, dim=vectors.shape[1])
        native.init_index(
            max_elements=max(1, len(keys)),
            M=parameters.m,
            ef_construction=parameters.ef_construction,
            random_seed=_SEED,
        )
        _insert(native, vectors, 0, parameters, broken_off)
        return cls(native, keys, parameters)

    def extended(
        self,
        keys: Sequence[bytes],
        vectors: Vectors,
        removed: Sequence[int],
        parameters: GraphParameters,
        broken_off: Callable[[], bool],
    ) -> Graph:
        """A copy of this graph with more vectors in it, and without the removed labels.

        Raises:
            BrokenOffError: ``broken_off`` said so.
            OSError: The disk, by way of which hnswlib copies, failed.
        """
        native = hnswlib.Index(space=METRIC, dim=self.native.dim)
        with tempfile.TemporaryDirectory(prefix="memory3-graph-") as folder:
            path = Path(folder) / "graph"
            save_native(self.native, path)
            native.load_index(str(path), max_elements=len(self.keys) + len(keys))
        all_keys = [*self.keys, *keys]
        for label in removed:
            native.mark_deleted(label)
            all_keys[label] = TOMBSTONE
        _insert(native, vectors, len(self.keys), parameters, broken_off)
        return Graph(native, all_keys, parameters)

    def vectors_of(self, keys: Sequence[bytes]) -> Vectors:
        """The unit vectors of keys that are there."""
        labels = [self.label_by_key[key] for key in keys]
        found = self.native.get_items(labels) if labels else []
        return np.asarray(found, dtype=np.float32).reshape(len(labels), self.native.dim)

    def search(self, queries: Vectors, k: int, masked: npt.NDArray[np.bool_]) -> list[list[Hit]]:
        """The hits of unit queries among the labels that are not masked."""
        if not self.label_by_key:
            return [[] for _ in queries]
        # hnswlib finds masked ones too, so as many more are asked for.
        wanted = min(k + int(np.count_nonzero(masked)), len(self.label_by_key))
        try:
            labels, distances = self.native.knn_query(queries, k=wanted)
        except RuntimeError:
            labels, distances = self._search_all(queries, wanted)
        scores = np.round(1.0 - np.asarray(distances, dtype=np.float32), SCORE_DECIMALS)
        hits: list[list[Hit]] = []
        for found, cosines in zip(labels, scores, strict=True):
            near = zip(found, cosines, strict=True)
            live = [Hit(self.keys[label], float(score)) for label, score in near
                    if not masked[label]]  # fmt: skip
            hits.append(live[:k])
        return hits

    def _search_all(
        self, queries: Vectors, k: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Exactly, for the rare graph from whose entry fewer than k vectors are reached."""
        labels = np.fromiter(self.label_by_key.values(), dtype=np.int64)
        distances = 1.0 - queries @ self.vectors_of(list(self.label_by_key)).T
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        return labels[order], np.take_along_axis(distances, order, axis=1)


def save_native(native: hnswlib.Index, path: Path) -> None:
    """Write a graph; hnswlib itself says nothing when the disk is full.

    Raises:
        OSError: The file is not as long as it has to be.
    """
    native.save_index(str(path))
    expected, actual = native.index_file_size(), path.stat().st_size if path.exists() else 0
    if actual != expected:
        raise OSError(f"only {actual} of {expected} bytes of a graph were written")


def _insert(
    native: hnswlib.Index,
    vectors: Vectors,
    first_label: int,
    parameters: GraphParameters,
    broken_off: Callable[[], bool],
) -> None:
    for start in range(0, len(vectors), _STEP):
        if broken_off():
            raise BrokenOffError
        block = vectors[start : start + _STEP]
        labels = np.arange(first_label + start, first_label + start + len(block))
        native.add_items(block, labels, num_threads=parameters.threads)
