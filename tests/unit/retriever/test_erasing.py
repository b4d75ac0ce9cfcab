"""Erasing that is broken off and done again, beside snapshots that are just being taken."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import redis
from memory3_retriever.bank.snapshot_stores import FolderSnapshots, Snapshot
from memory3_retriever.limits import TimeLimit
from memory3_retriever.operations.erase import Eraser, Receipt

from memory3.v1 import retriever_pb2
from tests.redis_server import RedisServer
from tests.unit.retriever.calls import BANK, add_references, named_query, retrieve
from tests.unit.retriever.conftest import RunningRetriever
from tests.unit.retriever.test_admin import holders
from tests.waiting import eventually


def eraser(retriever: RunningRetriever) -> Eraser:
    """Erases from the bank."""
    loaded = retriever.loaded
    bank = loaded.catalog.get("docs")
    return Eraser(loaded.catalog, loaded.models.main.memories, bank, TimeLimit(600))


def break_off(retriever: RunningRetriever, source: str) -> None:
    """Erase no further than from the bank's records."""
    steps = eraser(retriever).run([], source, keep_snapshots=False)
    assert next(steps) == "deleting the references"
    assert next(steps) == "writing the bank's files anew"


def erase(retriever: RunningRetriever, source: str) -> Receipt:
    """To the end."""
    *_, last = eraser(retriever).run([], source, keep_snapshots=False)
    assert isinstance(last, Receipt)
    return last


def test_what_was_broken_off_is_finished_by_the_same_call(
    start_retriever: Callable[..., RunningRetriever], redis_server: RedisServer, tmp_path: Path
) -> None:
    """By its source, which the bank does not know any more: cache and snapshots are reached."""
    retriever = start_retriever(cache=f"redis:{redis_server.patient_url}")
    retriever.create("docs")
    gone = add_references(retriever, "secret one", "secret two", source="hr/a")
    (kept,) = add_references(retriever, "harmless", source="b")
    retriever.stub.SnapshotBank(retriever_pb2.SnapshotBankRequest(name=BANK, snapshot="before"))
    retrieve(retriever, named_query(*(each.id for each in gone), kept.id))
    client = redis.Redis.from_url(redis_server.url)
    assert eventually(lambda: len(client.keys("*")) == 3)
    break_off(retriever, "hr/")
    # Only the bank itself let go of them so far, and it is another process that goes on.
    retriever = start_retriever(cache=f"redis:{redis_server.patient_url}")
    assert len(client.keys("*")) == 3
    receipt = erase(retriever, "hr/")
    assert receipt.reference_ids == sorted(each.id for each in gone)
    assert {place.kind for place in receipt.places} == {"bank", "index", "cache", "snapshot"}
    assert [key for key in client.keys("*") if kept.id.encode() not in key] == []
    assert holders(tmp_path / "data", b"secret") == []
    # Nothing is noted any more, and nothing is claimed twice.
    again = erase(retriever, "hr/")
    assert again.reference_ids == []
    client.close()


def test_what_was_added_again_is_no_part_of_it(retriever: RunningRetriever) -> None:
    """A receipt names nothing that is there."""
    retriever.create("docs")
    (first, second) = add_references(retriever, "secret one", "secret two", source="hr/a")
    break_off(retriever, "hr/")
    add_references(retriever, "secret one", source="hr/a")
    (other,) = add_references(retriever, "other", source="other")
    assert erase(retriever, "other").reference_ids == sorted([second.id, other.id])
    found = retriever.stub.ListReferences(retriever_pb2.ListReferencesRequest(bank=BANK))
    assert [each.id for each in found.references] == [first.id]


class Slow(FolderSnapshots):
    """A place of snapshots that takes one in when it may."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.is_reached, self.may_go_on = threading.Event(), threading.Event()

    def add(self, data_file: Path, snapshot: Snapshot) -> None:
        """Keep a snapshot, later."""
        self.is_reached.set()
        assert self.may_go_on.wait(60)
        super().add(data_file, snapshot)


def test_a_snapshot_that_is_being_taken_is_erased_as_well(
    retriever: RunningRetriever, tmp_path: Path
) -> None:
    """It was begun before and is kept after the references are gone."""
    retriever.create("docs")
    add_references(retriever, "secret", source="hr/a")
    add_references(retriever, "harmless", source="b")
    slow = Slow(tmp_path / "data" / "snapshots")
    retriever.loaded.catalog.snapshots = slow
    request = retriever_pb2.SnapshotBankRequest(name=BANK, snapshot="meanwhile")
    taking = threading.Thread(target=lambda: retriever.stub.SnapshotBank(request))
    taking.start()
    assert slow.is_reached.wait(60)
    receipts: list[Receipt] = []
    erasing = threading.Thread(target=lambda: receipts.append(erase(retriever, "hr/")))
    erasing.start()
    assert eventually(lambda: retriever.loaded.catalog.get("docs").store.being_erased() != set())
    slow.may_go_on.set()
    for thread in (taking, erasing):
        thread.join()
    (receipt,) = receipts
    assert "meanwhile" in {place.name for place in receipt.places}
    assert holders(tmp_path / "data", b"secret") == []
