"""A graph on disk, verified before native code sees it.

hnswlib loads a graph of other dimensions without a word, and damaged bytes kill the process. So a
saved graph is a folder ``graph-N`` with ``graph.bin``, ``keys.bin`` and a manifest with the hashes
of both and a checksum of its own; whatever does not agree is not there.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import hnswlib
from crc32c import crc32c

from memory3.rpc.logging import get_logger
from memory3_retriever.failpoints import failpoint
from memory3_retriever.files import publish, sha256_of, sweep, temporary_folder
from memory3_retriever.indexes.graph import METRIC, Graph, GraphParameters, save_native

_FORMAT = "memory3-hnsw-1"
_GRAPH, _KEYS, _MANIFEST = "graph.bin", "keys.bin", "manifest.json"
_PREFIX = "graph-"

_log = get_logger(__name__)


def save_graph(folder: Path, graph: Graph, parameters: GraphParameters, revision: int) -> None:
    """Put a graph beside the older ones, durably, then remove those.

    Args:
        folder: The index's folder; made if it is not there.
        graph: What to save; its keys must be 16 bytes each.
        parameters: How it was built.
        revision: The bank's revision that it reflects.

    Raises:
        OSError: The disk failed; the older graph is intact.
    """
    folder.mkdir(parents=True, exist_ok=True)
    older = _generations(folder)
    number = older[-1] + 1 if older else 1
    with temporary_folder(folder) as work:
        save_native(graph.native, work / _GRAPH)
        failpoint("index.written")
        (work / _KEYS).write_bytes(b"".join(graph.keys))
        manifest: dict[str, Any] = {
            "format": _FORMAT,
            "metric": METRIC,
            "dimensions": graph.native.dim,
            "m": parameters.m,
            "ef_construction": parameters.ef_construction,
            "count": len(graph.keys),
            "revision": revision,
            "files": {name: list(sha256_of(work / name)) for name in (_GRAPH, _KEYS)},
        }
        manifest["crc32c"] = _checksum(manifest)
        (work / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        publish(work, folder / f"{_PREFIX}{number}")
    for old in older:
        shutil.rmtree(folder / f"{_PREFIX}{old}", ignore_errors=True)


def load_graph(folder: Path, dimensions: int, parameters: GraphParameters) -> Graph | None:
    """The newest graph that is whole and of this form; None if there is none."""
    if not folder.is_dir():
        return None
    sweep(folder)
    for number in reversed(_generations(folder)):
        path = folder / f"{_PREFIX}{number}"
        try:
            return _load(path, dimensions, parameters)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            _log.warning("a saved index is not used", index=path.name, why=str(error))
    return None


def _load(path: Path, dimensions: int, parameters: GraphParameters) -> Graph:
    manifest = json.loads((path / _MANIFEST).read_text())
    if manifest.pop("crc32c") != _checksum(manifest):
        raise ValueError("the manifest's checksum is wrong")
    expected = {
        "format": _FORMAT,
        "metric": METRIC,
        "dimensions": dimensions,
        "m": parameters.m,
        "ef_construction": parameters.ef_construction,
    }
    for name, value in expected.items():
        if manifest[name] != value:
            raise ValueError(f"its {name} is {manifest[name]}, not {value}")
    for name in (_GRAPH, _KEYS):
        if list(sha256_of(path / name)) != manifest["files"][name]:
            raise ValueError(f"{name} does not have the manifest's hash")
    packed, count = (path / _KEYS).read_bytes(), manifest["count"]
    if len(packed) != 16 * count:
        raise ValueError("there is not one key for each vector")
    native = hnswlib.Index(space=METRIC, dim=dimensions)
    native.load_index(str(path / _GRAPH), max_elements=max(1, count))
    if native.get_current_count() != count:
        raise ValueError("the graph has another number of vectors")
    return Graph(native, [packed[i : i + 16] for i in range(0, len(packed), 16)], parameters)


def _generations(folder: Path) -> list[int]:
    numbers = [path.name.removeprefix(_PREFIX) for path in folder.glob(f"{_PREFIX}*")]
    return sorted(int(number) for number in numbers if number.isdigit())


def _checksum(manifest: dict[str, Any]) -> int:
    return int(crc32c(json.dumps(manifest, sort_keys=True).encode()))
