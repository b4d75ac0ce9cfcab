"""The HNSW index: a graph of hnswlib as the base.

Source: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
Hierarchical Navigable Small World graphs" (2018).
"""

from __future__ import annotations

import dataclasses
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, cast

import numpy as np

from memory3_retriever.files import TEMPORARY_PREFIX
from memory3_retriever.indexes.base import Vectors
from memory3_retriever.indexes.graph import MAX_EF, Graph, GraphParameters
from memory3_retriever.indexes.graph_files import load_graph, save_graph
from memory3_retriever.indexes.graph_process import build_apart, read_graph, write_graph
from memory3_retriever.indexes.layered import Base, LayeredIndex, Mask, Stop

# A graph is built anew, not extended, when so much of it is gone.
_GONE_SHARE = 0.2
# More vectors than these are put together in a process of their own.
_APART = 20_000
# How far ``ef`` may be raised above what the index's name says.
_MAX_EF_FACTOR = 8


class HnswIndex(LayeredIndex):
    """Finds nearly all of the nearest vectors in time that hardly grows with their number.

    Args:
        dimensions: The length of a vector.
        argument: Parameters, such as ``m=32,ef=256``; see ``GraphParameters``.
        folder: Where graphs are saved; None saves none.

    Raises:
        InvalidArgumentError: The argument is not of that form.
    """

    name: ClassVar[str] = "hnsw"
    # Taking the next graph into use holds searches up for a second for each million vectors.
    changed_share: ClassVar[float] = 0.02
    resting_share: ClassVar[float] = 0.005

    def __init__(
        self, dimensions: int, *, argument: str | None = None, folder: Path | None = None
    ) -> None:
        # ``ef`` may be raised later; the other parameters stay what the name says.
        self.parameters = GraphParameters.parse(argument)
        self._max_ef = min(MAX_EF, _MAX_EF_FACTOR * self.parameters.ef)
        nothing = np.empty((0, max(1, dimensions)), dtype=np.float32)
        super().__init__(
            dimensions,
            argument=argument,
            folder=folder,
            delta=self.parameters.delta,
            empty=Graph.build([], nothing, self.parameters, lambda: False),
        )

    def search_harder(self) -> str:
        """Double ``ef``, up to eight times what the name says."""
        with self._lock:
            before = self.parameters.ef
            if before >= self._max_ef:
                return ""
            ef = min(2 * before, self._max_ef)
            self.parameters = dataclasses.replace(self.parameters, ef=ef)
            # hnswlib reads it once, when a query begins.
            cast(Graph, self._state.base).native.set_ef(ef)
        return f"ef raised from {before} to {ef}"

    def _load_base(self, folder: Path) -> Base | None:
        return load_graph(folder, self.dimensions, self.parameters, self.owner)

    def _save_base(self, folder: Path, base: Base) -> None:
        save_graph(folder, cast(Graph, base), self.parameters, self.revision, self.owner)

    def _next_base(
        self, base: Base, masked: Mask, keys: Sequence[bytes], vectors: Vectors, stop: Stop
    ) -> Base:
        graph, kept = cast(Graph, base), np.flatnonzero(~masked)
        anew = len(kept) < (1 - _GONE_SHARE) * len(masked) or not len(kept)
        removed = np.setdiff1d(np.flatnonzero(masked), _tombstones(graph)).tolist()
        if self.folder is not None and len(kept) + len(keys) > _APART:
            return self._built_apart(self.folder, graph, removed, keys, vectors, stop, anew=anew)
        if not anew:
            return graph.extended(keys, vectors, removed, self.parameters, stop, self.folder)
        kept_keys = [graph.table[label] for label in kept]
        vectors = np.concatenate([graph.vectors_at(kept), vectors])
        return Graph.build([*kept_keys, *keys], vectors, self.parameters, stop)

    def _built_apart(
        self,
        folder: Path,
        graph: Graph,
        removed: Sequence[int],
        keys: Sequence[bytes],
        vectors: Vectors,
        stop: Stop,
        *,
        anew: bool,
    ) -> Graph:
        folder.mkdir(parents=True, exist_ok=True)
        # Swept at the next start, if it is not moved to its place before.
        work = folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        work.mkdir(mode=0o700)
        try:
            before = graph.folder
            if before is None and len(graph.table):
                before = work / "before"
                before.mkdir()
                write_graph(before, graph)
            build_apart(work, before, removed, keys, vectors, self.parameters, stop, anew=anew)
            return read_graph(work, self.dimensions, self.parameters)
        except BaseException:
            # Its files may be what is wrong: the next attempt writes them anew from memory.
            graph.folder = None
            shutil.rmtree(work, ignore_errors=True)
            raise


def _tombstones(graph: Graph) -> Sequence[int]:
    """The labels that are marked as deleted already; hnswlib refuses to mark them twice."""
    live = np.zeros(len(graph.table), dtype=np.bool_)
    live[graph.table.live_labels()] = True
    return cast(Sequence[int], np.flatnonzero(~live))
