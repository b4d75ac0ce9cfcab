"""The HNSW index: an immutable graph, and beside it a small exact delta of what came since.

Source: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
Hierarchical Navigable Small World graphs" (2018). Additions go to the delta, removals are masked;
when either grows, the next graph is built in the background and swapped in at once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from memory3.rpc.logging import get_logger
from memory3_retriever.indexes.base import Hit, Index, Vectors
from memory3_retriever.indexes.exact import ExactIndex, ExactView
from memory3_retriever.indexes.graph import BrokenOffError, Graph, GraphParameters
from memory3_retriever.indexes.graph_files import load_graph, save_graph

# So many masked vectors are at most searched in vain before the next graph leaves them out.
_MAX_MASKED = 1000
# A graph is built anew, not extended, when so much of it is gone.
_GONE_SHARE = 0.2
# The delta may grow to this share of the graph, so that building stays rare as a bank grows.
_DELTA_SHARE = 0.1

_log = get_logger(__name__)


@dataclass(frozen=True, eq=False)
class _State:
    """What searches see."""

    graph: Graph
    masked: npt.NDArray[np.bool_]  # by label
    delta: ExactView

    def search(self, queries: Vectors, k: int) -> list[list[Hit]]:
        near = self.graph.search(queries, k, self.masked)
        recent = self.delta.search(queries, k)
        return [
            sorted((*a, *b), key=lambda hit: (-hit.score, hit.key))[:k]
            for a, b in zip(near, recent, strict=True)
        ]


class HnswIndex(Index):
    """Finds nearly all of the nearest vectors in time that hardly grows with their number.

    Args:
        dimensions: The length of a vector.
        argument: Parameters, such as ``m=32,ef=256``; see ``GraphParameters``.
        folder: Where graphs are saved; None saves none.

    Raises:
        InvalidArgumentError: The argument is not of that form.
    """

    name: ClassVar[str] = "hnsw"

    def __init__(
        self, dimensions: int, *, argument: str | None = None, folder: Path | None = None
    ) -> None:
        super().__init__(dimensions, argument=argument, folder=folder)
        self.parameters = GraphParameters.parse(argument)
        self._lock = threading.RLock()
        self._live: set[bytes] = set()
        self._delta = ExactIndex(dimensions)
        empty = np.empty((0, dimensions), dtype=np.float32)
        graph = Graph.build([], empty, self.parameters, lambda: False)
        self._state = _State(graph, np.zeros(0, dtype=np.bool_), self._delta.view)
        self._saved: Graph | None = graph
        self._builder: threading.Thread | None = None
        self._closed = threading.Event()

    def keys(self) -> set[bytes]:
        """The keys of all vectors."""
        with self._lock:
            return set(self._live)

    def __contains__(self, key: bytes) -> bool:
        return key in self._live

    def __len__(self) -> int:
        return len(self._live)

    @property
    def num_in_graph(self) -> int:
        """How many vectors are found by way of the graph; the others are searched exactly."""
        state = self._state
        return len(state.graph.label_by_key) - int(np.count_nonzero(state.masked))

    def load(self) -> None:
        """Take up the newest saved graph that is whole; anything else is left alone."""
        if self.folder is None:
            return
        graph = load_graph(self.folder, self.dimensions, self.parameters)
        if graph is not None:
            with self._lock:
                self._live |= set(graph.label_by_key)
                self._swap(graph)
                self._saved = graph

    def save(self) -> None:
        """Save the graph, if it is not saved yet.

        Raises:
            OSError: The disk failed; what was saved before is intact.
        """
        graph = self._state.graph
        if self.folder is not None and graph is not self._saved and graph.keys:
            save_graph(self.folder, graph, self.parameters, self.revision)
            self._saved = graph

    def settle(self) -> None:
        """Wait until no graph is being built."""
        while (builder := self._builder) is not None:
            builder.join()

    def close(self) -> None:
        """Break off building."""
        self._closed.set()
        self.settle()

    def _add(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        with self._lock:
            self._delta.add(keys, vectors)
            self._live.update(keys)
            state = self._state
            self._state = _State(state.graph, state.masked, self._delta.view)
            self._build_if_due()

    def _remove(self, keys: set[bytes]) -> None:
        with self._lock:
            state = self._state
            masked = state.masked.copy()
            labels = (state.graph.label_by_key.get(key) for key in keys)
            masked[[label for label in labels if label is not None]] = True
            self._delta.remove(list(keys))
            self._live -= keys
            self._state = _State(state.graph, masked, self._delta.view)
            self._build_if_due()

    def _search(self, queries: Vectors, k: int) -> list[list[Hit]]:
        return self._state.search(queries, k)

    def _build_if_due(self) -> None:
        if self._is_due() and self._builder is None:
            self._builder = threading.Thread(target=self._build, name="hnsw-build", daemon=True)
            self._builder.start()

    def _is_due(self) -> bool:
        masked = self._state.masked
        enough = max(self.parameters.delta, _DELTA_SHARE * len(masked))
        due = len(self._delta) >= enough or int(np.count_nonzero(masked)) > _MAX_MASKED
        return due and not self._closed.is_set()

    def _build(self) -> None:
        try:
            while True:
                graph = self._next_graph()
                with self._lock:
                    self._swap(graph)
                self.save()
                with self._lock:
                    if not self._is_due():
                        self._builder = None
                        return
        except BrokenOffError:
            self._builder = None
        except Exception:
            # Searches stay right without a new graph: the delta is exact.
            _log.exception("an index could not be built or saved")
            self._builder = None

    def _next_graph(self) -> Graph:
        with self._lock:
            state, delta_keys = self._state, sorted(self._delta.keys())
            delta_vectors = self._delta.vectors_of(delta_keys)
        graph, masked, stop = state.graph, state.masked, self._closed.is_set
        kept = [key for key, label in graph.label_by_key.items() if not masked[label]]
        if kept and len(kept) >= (1 - _GONE_SHARE) * len(masked):
            removed = np.flatnonzero(masked).tolist()
            return graph.extended(delta_keys, delta_vectors, removed, self.parameters, stop)
        vectors = np.concatenate([graph.vectors_of(kept), delta_vectors])
        return Graph.build([*kept, *delta_keys], vectors, self.parameters, stop)

    def _swap(self, graph: Graph) -> None:
        """Search the new graph from now on; what changed while it was built goes beside it."""
        masked = np.zeros(len(graph.keys), dtype=np.bool_)
        gone = [label for key, label in graph.label_by_key.items() if key not in self._live]
        masked[gone] = True
        delta = ExactIndex(self.dimensions)
        later = sorted(self._delta.keys() - graph.label_by_key.keys())
        delta.add(later, self._delta.vectors_of(later))
        self._delta = delta
        self._state = _State(graph, masked, delta.view)
