"""A graph on disk: hnswlib's file and the keys of its labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hnswlib

from memory3_retriever.failpoints import failpoint
from memory3_retriever.indexes.graph import METRIC, Graph, GraphParameters, save_native
from memory3_retriever.indexes.keys import KEY_BYTES, KeyTable
from memory3_retriever.indexes.saved import load_base, save_base

_FORMAT = "memory3-hnsw-2"
_GRAPH, _KEYS = "graph.bin", "keys.bin"
_PREFIX = "graph-"


def save_graph(
    folder: Path, graph: Graph, parameters: GraphParameters, revision: int, owner: str = ""
) -> None:
    """Put a graph beside the older ones, durably, then remove those.

    Args:
        folder: The index's folder; made if it is not there.
        graph: What to save.
        parameters: How it was built.
        revision: The bank's revision that it reflects, for people.
        owner: Whose vectors these are.

    Raises:
        OSError: The disk failed; the older graph is intact.
    """

    def write(work: Path) -> list[str]:
        save_native(graph.native, work / _GRAPH)
        failpoint("index.written")
        (work / _KEYS).write_bytes(graph.table.packed)
        return [_GRAPH, _KEYS]

    form = _form(graph.native.dim, parameters, owner)
    form |= {"count": len(graph.table), "revision": revision}
    save_base(folder, _PREFIX, form, write)


def load_graph(
    folder: Path, dimensions: int, parameters: GraphParameters, owner: str = ""
) -> Graph | None:
    """The newest graph that is whole and of this form; None if there is none."""

    def read(path: Path, manifest: Mapping[str, Any]) -> Graph:
        packed, count = (path / _KEYS).read_bytes(), manifest["count"]
        if len(packed) != KEY_BYTES * count:
            raise ValueError("there is not one key for each vector")
        native = hnswlib.Index(space=METRIC, dim=dimensions)
        native.load_index(str(path / _GRAPH), max_elements=max(1, count))
        if native.get_current_count() != count:
            raise ValueError("the graph has another number of vectors")
        return Graph(native, KeyTable(packed), parameters)

    return load_base(folder, _PREFIX, _form(dimensions, parameters, owner), read)


def _form(dimensions: int, parameters: GraphParameters, owner: str) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "metric": METRIC,
        "dimensions": dimensions,
        "m": parameters.m,
        "ef_construction": parameters.ef_construction,
        "owner": owner,
    }
