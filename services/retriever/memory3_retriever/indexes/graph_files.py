"""A graph on disk: hnswlib's file and the keys of its labels."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memory3_retriever.failpoints import failpoint
from memory3_retriever.indexes.graph import METRIC, Graph, GraphParameters
from memory3_retriever.indexes.graph_process import GRAPH, KEYS, read_graph, write_graph
from memory3_retriever.indexes.saved import load_base, save_base

_FORMAT = "memory3-hnsw-2"
_PREFIX = "graph-"


def save_graph(
    folder: Path, graph: Graph, parameters: GraphParameters, revision: int, owner: str = ""
) -> None:
    """Put a graph beside the older ones, durably, then remove those.

    Args:
        folder: The index's folder; made if it is not there.
        graph: What to save; its files are moved there, if it has any already.
        parameters: How it was built.
        revision: The bank's revision that it reflects, for people.
        owner: Whose vectors these are.

    Raises:
        OSError: The disk failed; the older graph is intact.
    """
    made = graph.folder

    def write(work: Path) -> list[str]:
        if made is None:
            write_graph(work, graph)
        else:
            for name in (GRAPH, KEYS):
                # The files never change, so a second name is as good as a copy.
                os.link(made / name, work / name)
        failpoint("index.written")
        return [GRAPH, KEYS]

    form = _form(graph.native.dim, parameters, owner)
    form |= {"count": len(graph.table), "revision": revision}
    graph.folder = save_base(folder, _PREFIX, form, write)
    if made is not None:
        shutil.rmtree(made, ignore_errors=True)


def load_graph(
    folder: Path, dimensions: int, parameters: GraphParameters, owner: str = ""
) -> Graph | None:
    """The newest graph that is whole and of this form; None if there is none."""

    def read(path: Path, manifest: Mapping[str, Any]) -> Graph:
        graph = read_graph(path, dimensions, parameters)
        if len(graph.table) != manifest["count"]:
            raise ValueError("the graph has another number of vectors")
        return graph

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
