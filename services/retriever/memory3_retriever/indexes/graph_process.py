"""Large graphs are made in a process of their own.

hnswlib keeps every other thread of its process waiting while it reads or writes a file: a second or
two for each million vectors, and a graph is copied by way of a file. So a process of its own reads
the graph before, adds and leaves out what is to be, and writes the next one; all that the retriever
waits for is to read that. ``python -m memory3_retriever.indexes.graph_process WORK`` is that
process. It ends when its standard input does, so that it never outlives the retriever.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import hnswlib
import numpy as np

from memory3_retriever.failpoints import VARIABLE
from memory3_retriever.indexes.base import Vectors
from memory3_retriever.indexes.graph import METRIC, Graph, GraphParameters, save_native
from memory3_retriever.indexes.keys import KEY_BYTES, KeyTable
from memory3_retriever.indexes.layered import BrokenOffError, Stop, give_way
from memory3_retriever.indexes.saved import verified

GRAPH, KEYS = "graph.bin", "keys.bin"
_JOB, _NEW_KEYS, _NEW_VECTORS, _REMOVED = "job.json", "new-keys.bin", "new.npy", "removed.npy"
_POLL_S = 0.05


def build_apart(
    work: Path,
    base: Path | None,
    removed: Sequence[int],
    keys: Sequence[bytes],
    vectors: Vectors,
    parameters: GraphParameters,
    stop: Stop,
    *,
    anew: bool,
) -> None:
    """Make the next graph and leave it in a folder, as ``graph.bin`` and ``keys.bin``.

    Args:
        work: An empty folder.
        base: The folder of the graph before; None where there is none.
        removed: Labels of it that are left out.
        keys: The keys to add.
        vectors: Their unit vectors, [len(keys), dimensions].
        parameters: How the graph is built.
        stop: Asked now and then whether to break off.
        anew: Build from vectors alone, so that nothing of what was removed is left.

    Raises:
        BrokenOffError: ``stop`` said so.
        RuntimeError: The process failed; the text is the end of what it said.
        OSError: The disk failed.
    """
    np.save(work / _NEW_VECTORS, vectors)
    (work / _NEW_KEYS).write_bytes(b"".join(keys))
    np.save(work / _REMOVED, np.asarray(removed, dtype=np.int64))
    job = {
        "base": None if base is None else str(base),
        "anew": anew,
        "dimensions": vectors.shape[1],
        "parameters": dataclasses.asdict(parameters),
    }
    (work / _JOB).write_text(json.dumps(job))
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    child = subprocess.Popen(
        [sys.executable, "-m", "memory3_retriever.indexes.graph_process", str(work)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    )
    try:
        while child.poll() is None:
            if stop():
                raise BrokenOffError
            time.sleep(_POLL_S)
    finally:
        child.kill()
        _, said = child.communicate()
    if child.returncode:
        raise RuntimeError(f"a graph could not be made: {said.decode(errors='replace')[-2000:]}")
    for name in (_JOB, _NEW_KEYS, _NEW_VECTORS, _REMOVED):
        (work / name).unlink()


def read_graph(folder: Path, dimensions: int, parameters: GraphParameters) -> Graph:
    """The graph of a folder whose files are known to be whole.

    Raises:
        ValueError: Keys and vectors do not fit together.
    """
    packed = (folder / KEYS).read_bytes()
    count = len(packed) // KEY_BYTES
    native = hnswlib.Index(space=METRIC, dim=dimensions)
    native.load_index(str(folder / GRAPH), max_elements=max(1, count))
    if native.get_current_count() != count or len(packed) % KEY_BYTES:
        raise ValueError("there is not one key for each vector")
    graph = Graph(native, KeyTable(packed), parameters)
    graph.folder = folder
    return graph


def write_graph(folder: Path, graph: Graph) -> None:
    """Write a graph into a folder.

    Raises:
        OSError: The disk failed.
    """
    save_native(graph.native, folder / GRAPH)
    (folder / KEYS).write_bytes(graph.table.packed)


def _make(work: Path) -> None:
    job = json.loads((work / _JOB).read_text())
    parameters, dimensions = GraphParameters(**job["parameters"]), job["dimensions"]
    keys, vectors = list(KeyTable((work / _NEW_KEYS).read_bytes())), np.load(work / _NEW_VECTORS)
    removed, folder = np.load(work / _REMOVED), Path(job["base"] or "")
    if job["base"] is not None and folder.parent != work:
        # Damaged since it was loaded, it would end this process or spoil the next graph.
        verified(folder, {})
    if job["base"] is None:
        graph = Graph.build(keys, vectors, parameters, _never)
    elif job["anew"]:
        before = read_graph(folder, dimensions, parameters)
        kept = np.setdiff1d(before.table.live_labels(), removed)
        vectors = np.concatenate([before.vectors_at(kept), vectors])
        keys = [*(before.table[label] for label in kept), *keys]
        graph = Graph.build(keys, vectors, parameters, _never)
    else:
        table = KeyTable((folder / KEYS).read_bytes())
        graph = Graph.grown(
            folder / GRAPH, table, dimensions, keys, vectors, removed.tolist(), parameters, _never
        )
    write_graph(work, graph)


def _never() -> bool:
    return False


def _end_with_input() -> None:
    # Not by way of sys.stdin, whose lock this thread would hold when the process ends.
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    give_way()
    _make(Path(sys.argv[1]))
