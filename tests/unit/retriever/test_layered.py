"""What changes while the next base is built, and what a process killed while saving it leaves."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.indexes import hnsw, layered
from memory3_retriever.indexes.hnsw import HnswIndex
from memory3_retriever.indexes.ivf import IvfIndex
from memory3_retriever.indexes.keys import TOMBSTONE, KeyTable

from memory3.testing.indexes import clustered, found_keys, keys_of
from tests.unit.retriever.banks import items, open_store

DIMENSIONS = 24


@pytest.mark.parametrize("leaf", [HnswIndex, IvfIndex])
def test_nothing_that_changes_during_a_rebuild_is_lost(leaf: Any) -> None:
    """Added, removed, and removed and added again with another vector, while a base is built."""
    building, go_on = threading.Event(), threading.Event()

    class Slow(leaf):  # type: ignore[misc]
        """Waits before its second base."""

        def _next_base(self, *given: Any) -> Any:
            if len(given[0].table):
                building.set()
                assert go_on.wait(60)
            return super()._next_base(*given)

    keys, vectors = keys_of(300), clustered(300, DIMENSIONS, 1)
    index = Slow(DIMENSIONS, argument="delta=64")
    index.add(keys[:100], vectors[:100])
    index.settle()
    assert index.num_in_base == 100
    index.add(keys[100:200], vectors[100:200])
    assert building.wait(60)
    # Of the old base, of the delta that is being built in, and what is in neither.
    index.remove([keys[0], keys[1], keys[100], keys[101]])
    index.add([keys[1], keys[101]], -vectors[[1, 101]])
    index.add(keys[200:], vectors[200:])
    index.remove([keys[200]])
    expected = {*keys} - {keys[0], keys[100], keys[200]}

    def check() -> None:
        assert index.keys() == expected
        assert len(index) == len(expected)
        found = [hit[0] for hit in found_keys(index, vectors, 1)]
        kept = [n for n, key in enumerate(keys) if key in expected and n not in (1, 101)]
        assert [found[n] for n in kept] == [keys[n] for n in kept]
        assert {keys[0], keys[100], keys[200]}.isdisjoint(found)
        assert found_keys(index, -vectors[[1, 101]], 1) == [[keys[1]], [keys[101]]]

    check()
    go_on.set()
    index.settle()
    assert index.num_in_base > 150
    check()
    index.close()


@pytest.mark.parametrize("leaf", [HnswIndex, IvfIndex])
def test_a_rebuild_that_fails_costs_nothing(
    leaf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delta goes on being searched, and the next addition tries again."""
    keys, vectors = keys_of(200), clustered(200, DIMENSIONS, 2)
    index = leaf(DIMENSIONS, argument="delta=64", folder=tmp_path)
    monkeypatch.setattr(leaf, "_next_base", lambda *given: 1 / 0)
    index.add(keys[:150], vectors[:150])
    index.settle()
    assert (index.num_in_base, len(index)) == (0, 150)
    monkeypatch.undo()
    index.add(keys[150:], vectors[150:])
    index.settle()
    assert index.num_in_base == 200
    assert [hit[0] for hit in found_keys(index, vectors, 1)] == keys
    index.close()


@pytest.mark.parametrize("leaf", [HnswIndex, IvfIndex])
def test_what_waits_is_taken_up_when_the_bank_rests(
    leaf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delta too small for a base while the bank changes is built in and saved when it rests."""
    monkeypatch.setattr(layered, "_RESTING_DELTA", 10)
    keys, vectors = keys_of(130), clustered(130, DIMENSIONS, 3)
    index = leaf(DIMENSIONS, argument="delta=64", folder=tmp_path)
    rows = dict(zip(keys, vectors, strict=True))
    index.vectors_of = lambda wanted: {key: rows[key] for key in wanted}
    index.add(keys[:100], vectors[:100])
    index.settle()
    index.add(keys[100:], vectors[100:])
    index.tidy()
    index.settle()
    assert index.num_in_base == 100  # it has just changed
    monkeypatch.setattr(index, "_rests_from", 0.0)
    index.tidy()
    index.settle()
    assert index.num_in_base == 130
    index.close()
    again = leaf(DIMENSIONS, argument="delta=64", folder=tmp_path)
    again.vectors_of = index.vectors_of
    again.load()
    assert again.num_in_base == 130
    again.close()


def test_a_bank_at_rest_does_not_try_again_at_once_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk would be written to every second."""
    index = HnswIndex(DIMENSIONS, argument="delta=20", folder=tmp_path)
    num_tried = 0

    def fail(*given: Any) -> None:
        nonlocal num_tried
        num_tried += 1
        raise OSError("no room")

    monkeypatch.setattr(index, "_save_base", fail)
    index.add(keys_of(40), clustered(40, DIMENSIONS, 5))
    index.settle()
    assert num_tried == 1
    for _ in range(3):
        index.tidy()
        index.settle()
    assert num_tried == 1
    monkeypatch.setattr(index, "_rests_from", 0.0)
    index.tidy()
    index.settle()
    assert num_tried == 2
    index.close()


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every graph is made in a process of its own, however small."""
    monkeypatch.setattr(hnsw, "_APART", 0)


@pytest.mark.usefixtures("apart")
def test_a_graph_that_was_made_apart_finds_what_one_made_here_does(tmp_path: Path) -> None:
    """The first, one with more in it, one without what was removed; and each is saved."""
    keys, vectors = keys_of(300), clustered(300, DIMENSIONS, 6)
    folder = tmp_path / "index"
    index = HnswIndex(DIMENSIONS, argument="delta=64", folder=folder)
    expected: set[bytes] = set()
    for start, end, removed in ((0, 100, 0), (100, 200, 5), (200, 300, 150)):
        index.add(keys[start:end], vectors[start:end])
        expected |= {*keys[start:end]}
        index.settle()
        index.remove(keys[:removed])
        expected -= {*keys[:removed]}
        index.settle()
        assert index.keys() == expected
        found = [hit[0] for hit in found_keys(index, vectors[removed:end], 1)]
        assert found == keys[removed:end]
        again = HnswIndex(DIMENSIONS, argument="delta=64", folder=folder)
        again.load()
        assert again.num_in_base == end - (5 if start == 200 else 0)
    assert [path.name for path in folder.iterdir()] == ["graph-3"]
    index.close()


@pytest.mark.usefixtures("apart")
def test_a_damaged_file_is_not_built_upon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that would read it refuses; the next attempt writes it anew from memory."""
    keys, vectors = keys_of(200), clustered(200, DIMENSIONS, 7)
    index = HnswIndex(DIMENSIONS, argument="delta=64", folder=tmp_path)
    index.add(keys[:100], vectors[:100])
    index.settle()
    graph = tmp_path / "graph-1" / "graph.bin"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    index.add(keys[100:], vectors[100:])
    index.settle()
    assert index.num_in_base == 100
    assert [hit[0] for hit in found_keys(index, vectors, 1)] == keys
    monkeypatch.setattr(index, "_rests_from", 0.0)
    index.tidy()
    index.settle()
    assert index.num_in_base == 200
    assert [hit[0] for hit in found_keys(index, vectors, 1)] == keys
    index.close()


@pytest.mark.usefixtures("apart")
def test_building_apart_is_broken_off(tmp_path: Path) -> None:
    """Closing does not wait for a graph, and nothing of it is left."""
    index = HnswIndex(64, argument="ef_construction=2000,m=64,delta=64", folder=tmp_path)
    index.add(keys_of(20_000), clustered(20_000, 64, 8))
    index.close()
    assert index.num_in_base == 0
    assert list(tmp_path.iterdir()) == []


def test_a_key_table_finds_each_key_at_its_label() -> None:
    """Keys with zeros at their ends too; tombstones, shorter and longer keys are not there."""
    keys = [*keys_of(50), b"\1" + bytes(15), b"\1\2" + bytes(14), b"\1" * 16]
    table = KeyTable.of([TOMBSTONE, *keys, TOMBSTONE])
    assert table.labels(keys).tolist() == list(range(1, 54))
    assert [table[label] for label in range(1, 54)] == keys
    assert table.live() == set(keys)
    assert table.num_live == 53
    strange = [TOMBSTONE, b"", b"\1", keys[0] + b"x", keys_of(1, seed=9)[0]]
    assert table.labels(strange).tolist() == [-1] * 5
    assert np.flatnonzero(KeyTable(b"").labels(keys) >= 0).tolist() == []
    with pytest.raises(ValueError, match="16 bytes"):
        KeyTable.of([b"short"])


_KILLED = """
import os, signal, sys
from pathlib import Path
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.store import BankStore
from tests.unit.retriever.banks import info_of, items

folder, index, left = Path(sys.argv[1]), sys.argv[2], [int(sys.argv[3])]

def dying(real):
    def call(*given, **more):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **more)
    return call

os.fsync, os.rename = dying(os.fsync), dying(os.rename)
info = info_of(index=index)
store = BankStore(folder, "docs", map_bytes=1 << 20, max_map_bytes=1 << 30, info=info)
bank = LiveBank(store, folder)
for start in range(0, 400, 50):
    bank.put(items(50, start=start))
    print(f"acknowledged={start + 50}", flush=True)
    bank.settle()
"""


@pytest.mark.parametrize("index", ["hnsw:delta=40", "ivf:delta=40"])
@pytest.mark.parametrize("moment", [1, 4, 6, 7, 12])
def test_a_process_killed_while_it_saves_loses_nothing(
    tmp_path: Path, index: str, moment: int
) -> None:
    """SIGKILL at a sync or rename of the saving: all that was acknowledged is found again."""
    folder = tmp_path / "docs"
    folder.mkdir()
    command = [sys.executable, "-c", _KILLED, str(folder), index, str(moment)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=os.getcwd())
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    acknowledged = int(re.findall(r"acknowledged=(\d+)", ended.stdout)[-1])
    _check_whole(folder, acknowledged)
    assert list((folder / "index").glob(".tmp-*")) == []


@pytest.mark.parametrize("index", ["hnsw:delta=40", "ivf:delta=40"])
def test_a_deleted_index_is_derived_again(tmp_path: Path, index: str) -> None:
    """While the bank is open and while it is not."""
    folder = tmp_path / "docs"
    folder.mkdir()
    command = [sys.executable, "-c", _KILLED, str(folder), index, "-1"]
    subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=os.getcwd())
    assert [*(folder / "index").iterdir()] != []
    bank = LiveBank(open_store(folder), folder)
    shutil.rmtree(folder / "index")
    bank.put(items(100, start=400))
    bank.settle()
    bank.close()
    _check_whole(folder, 500)
    shutil.rmtree(folder / "index", ignore_errors=True)
    _check_whole(folder, 500)


def _check_whole(folder: Path, count: int) -> None:
    bank = LiveBank(open_store(folder), folder)
    there = items(count)
    bank.settle()
    _, found = bank.search(np.stack([item.vector for item in there]), 3)
    for item, hits in zip(there, found, strict=True):
        # Texts of the same words have the same vector.
        assert item.reference.key in {hit.key for hit in hits} or hits[0].score > 0.9999
    assert bank.verify().problems == []
    bank.close()
