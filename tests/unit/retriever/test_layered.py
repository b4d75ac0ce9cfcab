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
from memory3_retriever.indexes import layered
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


def test_a_base_with_little_new_in_it_is_saved_when_the_bank_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large base is not written again for each small delta; a start derives the rest."""
    monkeypatch.setattr(layered, "_UNSAVED_SHARE", 0.5)
    keys, vectors = keys_of(200), clustered(200, DIMENSIONS, 4)
    index = HnswIndex(DIMENSIONS, argument="delta=20", folder=tmp_path)
    index.add(keys[:160], vectors[:160])
    index.settle()
    index.add(keys[160:], vectors[160:])
    index.settle()
    assert index.num_in_base == 200

    def num_saved() -> int:
        other = HnswIndex(DIMENSIONS, argument="delta=20", folder=tmp_path)
        other.load()
        return other.num_in_base

    assert num_saved() == 160
    index.tidy()
    index.settle()
    assert num_saved() == 160
    monkeypatch.setattr(index, "_rests_from", 0.0)
    index.tidy()
    index.settle()
    assert num_saved() == 200
    index.close()


def test_a_bank_at_rest_does_not_try_again_at_once_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk would be written to every second."""
    monkeypatch.setattr(layered, "_UNSAVED_SHARE", 2.0)
    index = HnswIndex(DIMENSIONS, argument="delta=20", folder=tmp_path)
    index.add(keys_of(40), clustered(40, DIMENSIONS, 5))
    index.settle()
    num_tried = 0

    def fail(*given: Any) -> None:
        nonlocal num_tried
        num_tried += 1
        raise OSError("no room")

    monkeypatch.setattr(index, "_save_base", fail)
    monkeypatch.setattr(index, "_rests_from", 0.0)
    for _ in range(3):
        index.tidy()
        index.settle()
    assert num_tried == 1
    index.close()


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
