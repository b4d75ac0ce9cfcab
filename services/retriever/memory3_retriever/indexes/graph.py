"""One immutable HNSW graph of hnswlib, with the guards that hnswlib lacks.

hnswlib raises or aborts where additions meet queries, accepts NaN, forgets ``ef`` on loading, and
raises where it finds fewer than k. So a graph never changes once it is searched: growing makes
another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np
import numpy.typing as npt

from memory3_retriever.files import scratch_folder
from memory3_retriever.indexes.base import SCORE_DECIMALS, Hit, Vectors
from memory3_retriever.indexes.keys import TOMBSTONE, KeyTable
from memory3_retriever.indexes.layered import BrokenOffError, Mask, Stop
from memory3_retriever.indexes.parameters import parse_numbers

METRIC = "ip"  # of unit vectors: the cosine
MAX_EF = 10_000
_SEED = 1
# Vectors added between two looks at whether to break off.
_STEP = 1000
# Asked for beyond k, so that a few masked ones among the nearest cost no second search.
_SPARE = 16


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
        return cls(**parse_numbers("hnsw", argument, _RANGES))


_RANGES = {
    "m": (4, 128),
    "ef_construction": (16, 2000),
    "ef": (16, MAX_EF),
    "delta": (16, 1_000_000),
    "threads": (1, 256),
}


class Graph:
    """Vectors by label, 0 to ``len(table) - 1``, and the key of each label.

    Args:
        native: hnswlib's index, which nobody else changes; labels with a tombstone for a key are
            marked as deleted in it.
        keys: The key of each label.
        parameters: How it is searched.

    Attributes:
        folder: Where its files are; None where it is only in memory.
    """

    def __init__(
        self, native: hnswlib.Index, keys: Sequence[bytes] | KeyTable, parameters: GraphParameters
    ) -> None:
        # hnswlib forgets it on loading.
        native.set_ef(parameters.ef)
        native.set_num_threads(1)
        self.native = native
        self.folder: Path | None = None
        self.table = keys if isinstance(keys, KeyTable) else KeyTable.of(keys)

    @classmethod
    def build(
        cls,
        keys: Sequence[bytes],
        vectors: Vectors,
        parameters: GraphParameters,
        stop: Stop,
    ) -> Graph:
        """A graph of unit vectors, [len(keys), dimensions].

        Raises:
            BrokenOffError: ``stop`` said so.
        """
        native = hnswlib.Index(space=METRIC, dim=vectors.shape[1])
        native.init_index(
            max_elements=max(1, len(keys)),
            M=parameters.m,
            ef_construction=parameters.ef_construction,
            random_seed=_SEED,
        )
        _insert(native, vectors, 0, parameters, stop)
        return cls(native, keys, parameters)

    def extended(
        self,
        keys: Sequence[bytes],
        vectors: Vectors,
        removed: Sequence[int],
        parameters: GraphParameters,
        stop: Stop,
        folder: Path | None = None,
    ) -> Graph:
        """A copy of this graph with more vectors in it, and without the removed labels.

        Args:
            keys: The keys to add.
            vectors: Their unit vectors.
            removed: Labels of this graph that are left out.
            parameters: How the graph is built and searched.
            stop: Asked now and then whether to break off.
            folder: On whose disk hnswlib copies; None takes the system's temporary folder.

        Raises:
            BrokenOffError: ``stop`` said so.
            OSError: The disk failed.
        """
        with scratch_folder(folder) as scratch:
            path = scratch / "graph"
            save_native(self.native, path)
            return Graph.grown(
                path, self.table, self.native.dim, keys, vectors, removed, parameters, stop
            )

    @classmethod
    def grown(
        cls,
        path: Path,
        table: KeyTable,
        dimensions: int,
        keys: Sequence[bytes],
        vectors: Vectors,
        removed: Sequence[int],
        parameters: GraphParameters,
        stop: Stop,
    ) -> Graph:
        """As ``extended``, of a graph that is in a file, with the keys of its labels."""
        native = hnswlib.Index(space=METRIC, dim=dimensions)
        native.load_index(str(path), max_elements=len(table) + len(keys))
        packed = bytearray(table.packed)
        for label in removed:
            native.mark_deleted(label)
            packed[16 * label : 16 * (label + 1)] = TOMBSTONE
        _insert(native, vectors, len(table), parameters, stop)
        return cls(native, KeyTable(bytes(packed) + b"".join(keys)), parameters)

    @property
    def memory_bytes(self) -> int:
        """The arrays of hnswlib are as large as its file."""
        return int(self.native.index_file_size()) + self.table.nbytes

    def vectors_at(self, labels: npt.NDArray[np.integer[Any]]) -> Vectors:
        """The unit vectors of labels that are not deleted."""
        found = self.native.get_items(labels) if len(labels) else []
        return np.asarray(found, dtype=np.float32).reshape(len(labels), self.native.dim)

    def search(self, queries: Vectors, k: int, masked: Mask) -> list[list[Hit]]:
        """The hits of unit queries among the labels that are not masked."""
        num_live = self.table.num_live
        # hnswlib finds masked ones too, so more are asked for until enough are left.
        wanted = min(k + _SPARE, num_live)
        while num_live:
            hits = self._search_among_all(queries, wanted, k, masked)
            if wanted == num_live or all(len(found) == k for found in hits):
                return hits
            wanted = min(4 * wanted, num_live)
        return [[] for _ in queries]

    def _search_among_all(
        self, queries: Vectors, wanted: int, k: int, masked: Mask
    ) -> list[list[Hit]]:
        """The first k that are not masked of the ``wanted`` nearest."""
        try:
            labels, distances = self.native.knn_query(queries, k=wanted)
        except RuntimeError:
            labels, distances = self._search_all(queries, wanted)
        scores = np.round(1.0 - np.asarray(distances, dtype=np.float32), SCORE_DECIMALS)
        hits: list[list[Hit]] = []
        for found, cosines in zip(labels, scores, strict=True):
            live = np.flatnonzero(~masked[found.astype(np.intp)])[:k]
            near = zip(found[live].tolist(), cosines[live].tolist(), strict=True)
            hits.append([Hit(self.table[label], score) for label, score in near])
        return hits

    def _search_all(
        self, queries: Vectors, k: int
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
        """Exactly, for the rare graph from whose entry fewer than k vectors are reached."""
        labels = self.table.live_labels().astype(np.uint64)
        distances: Vectors = 1.0 - np.matmul(queries, self.vectors_at(labels).T)
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
    stop: Stop,
) -> None:
    for start in range(0, len(vectors), _STEP):
        if stop():
            raise BrokenOffError
        block = vectors[start : start + _STEP]
        labels = np.arange(first_label + start, first_label + start + len(block))
        native.add_items(block, labels, num_threads=parameters.threads)
