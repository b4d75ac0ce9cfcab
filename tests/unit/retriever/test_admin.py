"""What operators do to banks, over real sockets and real files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import redis

from memory3.errors import (
    AlreadyExistsError,
    CorruptDataError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from memory3.v1 import bank_admin_pb2 as admin
from memory3.v1 import bank_admin_pb2_grpc, retriever_pb2
from tests.redis_server import RedisServer
from tests.unit.retriever.calls import (
    BANK,
    add_references,
    named_query,
    refused,
    retrieve,
    search,
    text_query,
)
from tests.unit.retriever.conftest import RunningRetriever
from tests.unit.retriever.encoder_double import vector_of
from tests.waiting import eventually


def stub_of(retriever: RunningRetriever) -> bank_admin_pb2_grpc.BankAdminServiceStub:
    """The admin's methods of a running retriever."""
    return bank_admin_pb2_grpc.BankAdminServiceStub(retriever.channel)


def point(retriever: RunningRetriever, bank: str, expected: str = "") -> admin.Alias:
    """Point banks/current at a bank."""
    request = admin.SetAliasRequest(name="banks/current", bank=bank, expected_bank=expected)
    return stub_of(retriever).SetAlias(request).alias


def holders(folder: Path, needle: bytes) -> list[str]:
    """The files under a folder that hold some bytes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path.name for path in files if needle in path.read_bytes()]


def test_an_alias_is_flipped_rolled_back_and_outlives_a_start(
    start_retriever: Callable[..., RunningRetriever],
) -> None:
    """Reading through the alias reads the bank that it points at now."""
    retriever = start_retriever()
    retriever.create("docs")
    retriever.create("docs-v2")
    add_references(retriever, "the old text")
    point(retriever, BANK)
    request = retriever_pb2.SearchRequest(bank="banks/current", queries=[text_query("text")])
    assert len(retriever.stub.Search(request).results[0].hits) == 1
    assert point(retriever, "banks/docs-v2", BANK).previous_bank == BANK
    assert len(retriever.stub.Search(request).results[0].hits) == 0
    error = refused(lambda: point(retriever, "banks/docs-v2", BANK))
    assert isinstance(error, FailedPreconditionError)
    retriever = start_retriever()
    (alias,) = stub_of(retriever).ListAliases(admin.ListAliasesRequest()).aliases
    assert (alias.bank, alias.previous_bank) == ("banks/docs-v2", BANK)
    assert point(retriever, alias.previous_bank).bank == BANK
    bank = retriever.stub.GetBank(retriever_pb2.GetBankRequest(name="banks/current")).bank
    assert (bank.name, list(bank.aliases)) == (BANK, ["banks/current"])


def test_a_bank_behind_an_alias_cannot_be_deleted(retriever: RunningRetriever) -> None:
    """Nor can the alias stand for the bank in deleting, creating, restoring or another alias."""
    retriever.create("docs")
    point(retriever, BANK)
    for name in (BANK, "banks/current"):
        request = retriever_pb2.DeleteBankRequest(name=name)
        error = refused(lambda request=request: retriever.stub.DeleteBank(request))
        assert isinstance(error, FailedPreconditionError)
        assert "banks/current" in error.message
    assert isinstance(refused(lambda: retriever.create("current")), AlreadyExistsError)
    aliased = admin.SetAliasRequest(name=BANK, bank=BANK)
    assert isinstance(refused(lambda: stub_of(retriever).SetAlias(aliased)), AlreadyExistsError)
    missing = admin.SetAliasRequest(name="banks/other", bank="banks/nothing")
    assert isinstance(refused(lambda: stub_of(retriever).SetAlias(missing)), NotFoundError)
    stub_of(retriever).DeleteAlias(admin.DeleteAliasRequest(name="banks/current"))
    retriever.stub.DeleteBank(retriever_pb2.DeleteBankRequest(name=BANK))


@pytest.mark.parametrize("index", ["exact", "hnsw:delta=16"])
@pytest.mark.parametrize("write_policy", [1, 2])
def test_nothing_of_what_was_erased_is_in_any_file(
    retriever: RunningRetriever, tmp_path: Path, index: str, write_policy: int
) -> None:
    """Neither text, metadata, vector nor memory; what was not erased is found as before."""
    retriever.create("docs", index=index, write_policy=write_policy)
    kept = add_references(retriever, *(f"harmless words {n}" for n in range(40)))
    secret = "Zacharias Quillfeather earns nothing"
    (gone,) = add_references(retriever, secret, source="hr/a.md", metadata={"who": "Xyzzyplugh"})
    envelope = retrieve(retriever, named_query(gone.id)).envelopes[gone.id]
    retriever.stub.SnapshotBank(retriever_pb2.SnapshotBankRequest(name=BANK, snapshot="before"))
    retriever.loaded.catalog.get("docs").settle()
    vector = np.asarray(vector_of(secret), dtype="<f4").tobytes()
    data, needles = tmp_path / "data", (secret.encode(), b"Xyzzyplugh", vector, envelope[-64:])
    assert all(holders(data, needle) for needle in needles)
    request = admin.EraseReferencesRequest(bank=BANK, source="hr/")
    *steps, last = stub_of(retriever).EraseReferences(request)
    assert len(steps) >= 4
    assert list(last.receipt.reference_ids) == [gone.id]
    assert {place.kind for place in last.receipt.places} == {"bank", "index", "cache", "snapshot"}
    assert [holders(data, needle) for needle in needles] == [[]] * len(needles)
    assert gone.id not in retrieve(retriever, text_query(secret)).statuses
    assert len(search(retriever, "harmless words", k=256)[0]) == len(kept)
    assert not retriever.stub.VerifyBank(retriever_pb2.VerifyBankRequest(name=BANK)).problems or (
        write_policy == 2
    )
    verified = stub_of(retriever).VerifySnapshot(admin.VerifySnapshotRequest(snapshot="before"))
    assert not verified.problems


def test_a_snapshot_goes_out_and_comes_in_again(retriever: RunningRetriever) -> None:
    """What was downloaded is uploaded under another id and restored; a changed byte is refused."""
    retriever.create("docs")
    add_references(retriever, "one", "two")
    retriever.stub.SnapshotBank(retriever_pb2.SnapshotBankRequest(name=BANK, snapshot="first"))
    stub = stub_of(retriever)
    head, *parts = stub.DownloadSnapshot(admin.DownloadSnapshotRequest(snapshot="first"))
    data = b"".join(part.data for part in parts)
    told = head.snapshot
    told.id = "second"

    def upload(data: bytes) -> retriever_pb2.Snapshot:
        requests = [admin.UploadSnapshotRequest(snapshot=told)]
        requests += [
            admin.UploadSnapshotRequest(data=data[at : at + 100_000])
            for at in range(0, len(data), 100_000)
        ]
        return stub.UploadSnapshot(iter(requests)).snapshot

    changed = bytes([data[0] ^ 1]) + data[1:]
    for wrong in (changed, data[:-1], data + b"x"):
        assert isinstance(refused(lambda wrong=wrong: upload(wrong)), CorruptDataError)
    assert upload(data).id == "second"
    assert isinstance(refused(lambda: upload(data)), AlreadyExistsError)
    listed = stub.ListSnapshots(admin.ListSnapshotsRequest(page_size=1))
    more = stub.ListSnapshots(
        admin.ListSnapshotsRequest(page_size=1, page_token=listed.next_page_token)
    )
    assert {s.id for s in (*listed.snapshots, *more.snapshots)} == {"first", "second"}
    assert not more.next_page_token
    restored = retriever_pb2.RestoreBankRequest(snapshot="second", name="banks/again")
    assert retriever.stub.RestoreBank(restored).bank.statistics.num_references == 2
    told.id = "../../evil"
    assert isinstance(refused(lambda: upload(data)), InvalidArgumentError)
    stub.DeleteSnapshot(admin.DeleteSnapshotRequest(snapshot="first"))
    error = refused(lambda: stub.DeleteSnapshot(admin.DeleteSnapshotRequest(snapshot="first")))
    assert isinstance(error, NotFoundError)


def test_compacting_gives_room_back_and_keeps_everything(retriever: RunningRetriever) -> None:
    """The file is smaller, what is in the bank is the same, and it can be added to."""
    retriever.create("docs")
    add_references(retriever, *(f"first {n}" for n in range(300)), source="a")
    add_references(retriever, "stays")
    retriever.stub.DeleteReferences(retriever_pb2.DeleteReferencesRequest(bank=BANK, source="a"))
    done = stub_of(retriever).CompactBank(admin.CompactBankRequest(name=BANK))
    assert done.bytes_after < done.bytes_before
    add_references(retriever, "comes later")
    assert len(search(retriever, "stays", k=10)[0]) == 2
    assert not retriever.stub.VerifyBank(retriever_pb2.VerifyBankRequest(name=BANK)).problems


def test_warming_writes_all_that_is_missing(retriever: RunningRetriever) -> None:
    """The last response counts all; a second call has nothing to do."""
    retriever.create("docs", write_policy=2)
    add_references(retriever, *(f"text {n}" for n in range(150)))
    *_, last = stub_of(retriever).WarmBank(admin.WarmBankRequest(name=BANK))
    assert (last.progress.num_done, last.progress.num_total) == (150, 150)
    bank = retriever.stub.GetBank(retriever_pb2.GetBankRequest(name=BANK)).bank
    assert bank.statistics.num_memories == 150
    (only,) = stub_of(retriever).WarmBank(admin.WarmBankRequest(name=BANK))
    assert only.progress.num_total == 0


def test_repairing_drops_what_is_damaged_and_verifying_is_clean(
    retriever: RunningRetriever,
) -> None:
    """A dry run only tells; then memories are dropped and unreadable references removed."""
    retriever.create("docs")
    results = add_references(retriever, *(f"text {n}" for n in range(20)), source="a.md")
    first, second, third = (bytes.fromhex(result.id) for result in results[:3])
    environment = retriever.loaded.catalog.get("docs").store.environment

    def damage(txn: object) -> None:
        db = environment.databases
        for key, name in ((first, b"memories"), (second, b"references"), (third, b"vectors")):
            value = bytearray(txn.get(key, db=db[name]))
            value[len(value) // 2] ^= 1
            txn.put(key, bytes(value), db=db[name])

    environment.write(damage)
    dry = stub_of(retriever).RepairBank(admin.RepairBankRequest(name=BANK, dry_run=True))
    assert (dry.num_memories_dropped, dry.num_references_removed) == (1, 2)
    verify = retriever_pb2.VerifyBankRequest(name=BANK)
    assert len(retriever.stub.VerifyBank(verify).problems) >= 3
    done = stub_of(retriever).RepairBank(admin.RepairBankRequest(name=BANK))
    assert done.index_rebuilt
    assert {r.reference_id for r in done.repairs} >= {first.hex(), second.hex(), third.hex()}
    list(stub_of(retriever).WarmBank(admin.WarmBankRequest(name=BANK)))
    assert not retriever.stub.VerifyBank(verify).problems
    assert len(search(retriever, "text", k=100)[0]) == 18


def test_nothing_of_what_was_erased_is_in_redis(
    start_retriever: Callable[..., RunningRetriever], redis_server: RedisServer
) -> None:
    """The memory was there before, under a key that names the reference; afterwards no key does."""
    retriever = start_retriever(cache=f"redis:{redis_server.url}")
    retriever.create("docs")
    (gone, kept) = add_references(retriever, "secret words", "harmless words")
    retrieve(retriever, named_query(gone.id, kept.id))
    client = redis.Redis.from_url(redis_server.url)
    assert eventually(lambda: len(client.keys("*")) == 2)
    request = admin.EraseReferencesRequest(bank=BANK, ids=[gone.id])
    *_, last = stub_of(retriever).EraseReferences(request)
    assert last.receipt.sha256
    keys = [key.decode() for key in client.keys("*")]
    assert [key for key in keys if gone.id in key] == []
    assert len(keys) == 1
    client.close()


def test_kept_snapshots_are_named(retriever: RunningRetriever) -> None:
    """They are left as they are, and the receipt says so; ids that are not there are counted."""
    retriever.create("docs")
    (gone,) = add_references(retriever, "secret")
    retriever.stub.SnapshotBank(retriever_pb2.SnapshotBankRequest(name=BANK, snapshot="before"))
    request = admin.EraseReferencesRequest(bank=BANK, ids=[gone.id, "0" * 32], keep_snapshots=True)
    *_, last = stub_of(retriever).EraseReferences(request)
    assert list(last.receipt.kept_snapshots) == ["before"]
    assert last.receipt.num_missing == 1
    nothing = admin.EraseReferencesRequest(bank=BANK)
    error = refused(lambda: stub_of(retriever).EraseReferences(nothing))
    assert isinstance(error, InvalidArgumentError)


def test_compacting_while_others_write_and_read_loses_nothing(retriever: RunningRetriever) -> None:
    """What was acknowledged during many compactions is there, in async banks as well."""
    retriever.create("docs", durability=retriever_pb2.DURABILITY_ASYNC)
    added: list[str] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            (result,) = add_references(retriever, f"text {len(added)}")
            added.append(result.id)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(8):
            stub_of(retriever).CompactBank(admin.CompactBankRequest(name=BANK))
            search(retriever, "text")
    finally:
        stop.set()
        writer.join()
    assert added
    bank = retriever.stub.GetBank(retriever_pb2.GetBankRequest(name=BANK)).bank
    assert bank.statistics.num_references == len(added)
    assert not retriever.stub.VerifyBank(retriever_pb2.VerifyBankRequest(name=BANK)).problems
