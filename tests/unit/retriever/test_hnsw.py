"""The graph on disk and in the background: verified before use, swapped whole, guarded."""

import json
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from memory3_retriever.indexes import saved
from memory3_retriever.indexes.graph import Graph, GraphParameters, save_native
from memory3_retriever.indexes.graph_files import load_graph, save_graph
from memory3_retriever.indexes.hnsw import HnswIndex

from memory3.testing.indexes import clustered, found_keys, keys_of

PARAMETERS = GraphParameters(m=8, ef_construction=32, ef=32, delta=64)
ARGUMENT = "m=8,ef_construction=32,ef=32,delta=64"
DIMENSIONS = 16


def graph_of(count: int) -> Graph:
    """A graph of clustered vectors."""
    return Graph.build(keys_of(count), clustered(count, DIMENSIONS, 1), PARAMETERS, lambda: False)


def searched(graph: Graph, queries: np.ndarray) -> list[list[bytes]]:
    """The keys of the three nearest."""
    masked = np.zeros(len(graph.table), dtype=np.bool_)
    return [[hit.key for hit in hits] for hits in graph.search(queries, 3, masked)]


def test_a_saved_graph_is_the_same_graph(tmp_path: Path) -> None:
    """It finds what it found, with the same ``ef``, and older ones are removed."""
    graph, queries = graph_of(200), clustered(20, DIMENSIONS, 2)
    save_graph(tmp_path, graph_of(10), PARAMETERS, 1)
    save_graph(tmp_path, graph, PARAMETERS, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["graph-2"]
    loaded = load_graph(tmp_path, DIMENSIONS, PARAMETERS)
    assert loaded is not None
    assert loaded.native.ef == 32
    assert searched(loaded, queries) == searched(graph, queries)


@pytest.mark.parametrize(
    ("dimensions", "parameters"),
    [(DIMENSIONS + 1, PARAMETERS), (DIMENSIONS, GraphParameters(m=16, ef_construction=32))],
)
def test_a_graph_of_another_form_is_not_loaded(
    tmp_path: Path, dimensions: int, parameters: GraphParameters
) -> None:
    """Hnswlib itself would load it without a word."""
    save_graph(tmp_path, graph_of(50), PARAMETERS, 1)
    assert load_graph(tmp_path, dimensions, parameters) is None


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """Wherever a bit is flipped in any of the files, native code never sees them."""
    save_graph(tmp_path / "good", graph_of(50), PARAMETERS, 1)
    rng = np.random.default_rng(3)
    for name in ("graph.bin", "keys.bin", "manifest.json"):
        for round_number in range(25):
            folder = tmp_path / f"{name}-{round_number}"
            shutil.copytree(tmp_path / "good", folder)
            path = folder / "graph-1" / name
            content = bytearray(path.read_bytes())
            content[rng.integers(len(content))] ^= 1 << int(rng.integers(7))
            path.write_bytes(content)
            assert load_graph(folder, DIMENSIONS, PARAMETERS) is None


def test_a_manifest_made_to_fit_other_files_is_noticed(tmp_path: Path) -> None:
    """A count that is not that of the files is not believed even with the right checksum."""
    save_graph(tmp_path, graph_of(50), PARAMETERS, 1)
    path = tmp_path / "graph-1" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["crc32c"]
    manifest["count"] = 49
    manifest["crc32c"] = saved.manifest_checksum(manifest)
    path.write_text(json.dumps(manifest))
    assert load_graph(tmp_path, DIMENSIONS, PARAMETERS) is None


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    """Temporary folders go, and a generation without a manifest is passed over for a whole one."""
    save_graph(tmp_path, graph_of(50), PARAMETERS, 1)
    (tmp_path / ".tmp-left").mkdir()
    (tmp_path / "graph-2").mkdir()
    assert load_graph(tmp_path, DIMENSIONS, PARAMETERS) is not None
    assert not (tmp_path / ".tmp-left").exists()


def test_a_graph_that_was_not_written_whole_raises(tmp_path: Path) -> None:
    """Hnswlib says nothing when it cannot write; the size tells."""
    graph = graph_of(200)
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="bytes of a graph"):
        save_native(graph.native, tmp_path / "full")


def test_a_full_disk_costs_the_save_not_the_older_graph(tmp_path: Path) -> None:
    """Hnswlib reports nothing when a file may not grow; what was saved before stays whole."""
    save_graph(tmp_path, graph_of(50), PARAMETERS, 1)
    larger = graph_of(600)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match="bytes of a graph"):
            save_graph(tmp_path, larger, PARAMETERS, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["graph-1"]
    loaded = load_graph(tmp_path, DIMENSIONS, PARAMETERS)
    assert loaded is not None
    assert len(loaded.table) == 50


def test_a_restart_takes_up_the_graph_and_what_changed_since(tmp_path: Path) -> None:
    """The graph comes from the disk, later additions and removals from the bank."""
    keys, vectors = keys_of(300), clustered(300, DIMENSIONS, 4)
    first = HnswIndex(DIMENSIONS, argument=ARGUMENT, folder=tmp_path)
    first.add(keys[:200], vectors[:200])
    first.settle()
    first.close()
    second = HnswIndex(DIMENSIONS, argument=ARGUMENT, folder=tmp_path)
    second.load()
    assert second.keys() == set(keys[:200])
    assert second.num_in_base == 200
    second.remove(keys[:20])
    second.add(keys[200:240], vectors[200:240])
    assert second.num_in_base == 180
    assert [hit[0] for hit in found_keys(second, vectors[20:240], 1)] == keys[20:240]
    second.close()


def test_removed_vectors_leave_the_graph_and_its_file(tmp_path: Path) -> None:
    """After so many removals a graph is built without them, and saved without them."""
    keys, vectors = keys_of(3000), clustered(3000, DIMENSIONS, 5)
    index = HnswIndex(DIMENSIONS, argument=ARGUMENT, folder=tmp_path)
    index.add(keys, vectors)
    index.settle()
    removed, kept = index._state.base.vectors_at(
        index._state.base.table.labels([keys[0], keys[2000]])
    )
    index.remove(keys[:1500])
    index.settle()
    index.close()
    assert index.num_in_base == 1500
    loaded = load_graph(tmp_path, DIMENSIONS, PARAMETERS)
    assert loaded is not None
    assert loaded.table.live() == set(keys[1500:])
    saved = (tmp_path / os.listdir(tmp_path)[0] / "graph.bin").read_bytes()
    assert removed.tobytes() not in saved
    assert kept.tobytes() in saved


def test_few_removals_are_left_out_when_the_graph_is_extended() -> None:
    """Tombstones take the place of keys, and are never found again."""
    keys, vectors = keys_of(600), clustered(600, DIMENSIONS, 6)
    index = HnswIndex(DIMENSIONS, argument=ARGUMENT)
    index.add(keys[:500], vectors[:500])
    index.settle()
    index.remove(keys[:20])
    index.add(keys[500:], vectors[500:])
    index.settle()
    assert index.num_in_base == 580
    found = {key for hits in found_keys(index, vectors, 600) for key in hits}
    assert found == set(keys[20:])
    index.add(keys[:20], vectors[:20])
    assert [hit[0] for hit in found_keys(index, vectors[:20], 1)] == keys[:20]
    index.close()


def test_closing_breaks_off_building() -> None:
    """A service that stops does not wait for a large graph."""
    index = HnswIndex(64, argument="ef_construction=2000,m=64,delta=64")
    index.add(keys_of(20_000), clustered(20_000, 64, 7))
    index.close()
    assert index.num_in_base == 0
    assert len(index.search(clustered(1, 64, 8), 5)[0]) == 5
