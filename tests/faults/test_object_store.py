"""Snapshots and generations in a real object store: taken, checked, erased, damaged, away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from memory3.errors import BackendUnavailableError, CorruptDataError, NotFoundError
from memory3.rpc.status import from_rpc_error
from memory3.v1 import bank_admin_pb2, memory_pb2, retriever_pb2
from tests.faults.retrievers import RetrieverProcess
from tests.s3_server import S3Server
from tests.waiting import eventually

DOCS, SECRET = "banks/docs", "nobody may read this"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server; every test has a prefix of its own in its bucket."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


class Stored:
    """A retriever whose snapshots are in the object store.

    Args:
        folder: For its data.
        s3: The object store.
        prefix: Where in it.
    """

    def __init__(self, folder: Path, s3: S3Server, prefix: str) -> None:
        self.s3, self.prefix = s3, prefix
        self.retriever = RetrieverProcess(
            folder, "--cache", "none", "--snapshots", f"{s3.url}/{prefix}"
        )
        self.start()
        self.retriever.create("docs")
        self.secrets = self.retriever.add("docs", [f"{SECRET} {n}" for n in range(5)], "secret")
        self.retriever.add("docs", [f"text {n}" for n in range(40)], "a.md")

    def start(self, **variables: str) -> None:
        """Start it again."""
        self.retriever.start({**self.s3.environment, **variables})

    def snapshot(self, name: str) -> None:
        """Take a snapshot."""
        request = retriever_pb2.SnapshotBankRequest(name=DOCS, snapshot=name)
        self.retriever.stub.SnapshotBank(request)

    def restore(self, snapshot: str, name: str) -> dict[str, str]:
        """What a bank has that was made of a snapshot."""
        request = retriever_pb2.RestoreBankRequest(snapshot=snapshot, name=f"banks/{name}")
        self.retriever.stub.RestoreBank(request)
        return self.retriever.require_sound(name)

    def listed(self) -> list[str]:
        """The ids of all snapshots."""
        found = self.retriever.admin.ListSnapshots(bank_admin_pb2.ListSnapshotsRequest())
        return sorted(each.id for each in found.snapshots)

    def problems(self, snapshot: str) -> list[str]:
        """What verifying a snapshot says."""
        request = bank_admin_pb2.VerifySnapshotRequest(snapshot=snapshot)
        return [each.reason for each in self.retriever.admin.VerifySnapshot(request).problems]

    def erase(self) -> bank_admin_pb2.EraseReceipt:
        """Erase what is secret."""
        request = bank_admin_pb2.EraseReferencesRequest(bank=DOCS, ids=self.secrets)
        *_, last = self.retriever.admin.EraseReferences(request)
        return last.receipt

    def objects(self, snapshot: str = "") -> dict[str, bytes]:
        """The objects of all snapshots, or of one."""
        start = f"{self.prefix}/{snapshot}" + "/" * bool(snapshot)
        return {n: data for n, data in self.s3.objects().items() if n.startswith(start)}

    def data_of(self, snapshot: str) -> str:
        """The name of the object with a snapshot's data."""
        (name,) = (name for name in self.objects(snapshot) if name.endswith(".mdb"))
        return name


@pytest.fixture
def stored(tmp_path: Path, s3: S3Server) -> Iterator[Stored]:
    """A bank with something secret."""
    made = Stored(tmp_path, s3, tmp_path.name)
    yield made
    made.retriever.close()


def failed(call: Callable[[], object]) -> Exception:
    """The typed error of a call."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return from_rpc_error(raised.value)


def test_a_snapshot_goes_there_and_back(stored: Stored) -> None:
    """In several parts where it is large; listed, verified, restored and deleted."""
    references = [
        memory_pb2.Reference(text=f"large {n}", metadata={"k": f"{n:05d}" * 3000})
        for n in range(700)
    ]
    for start in range(0, 700, 100):
        request = retriever_pb2.AddReferencesRequest(
            bank=DOCS, references=references[start : start + 100]
        )
        list(stored.retriever.stub.AddReferences(iter([request])))
    stored.snapshot("first")
    stored.snapshot("second")
    assert len(stored.objects("first")[stored.data_of("first")]) > 10 << 20
    assert stored.listed() == ["first", "second"]
    assert stored.problems("first") == []
    assert stored.restore("first", "copy") == stored.retriever.contents("docs")
    stored.retriever.admin.DeleteSnapshot(bank_admin_pb2.DeleteSnapshotRequest(snapshot="first"))
    assert stored.objects("first") == {}
    assert stored.listed() == ["second"]


@pytest.mark.parametrize("place", ["snapshot.replacing", "snapshot.replaced"])
def test_erasing_reaches_the_store_also_after_a_kill(stored: Stored, place: str) -> None:
    """In between the old or the new snapshot is whole; done again, no object has the words."""
    stored.snapshot("first")
    stored.retriever.kill()
    stored.start(MEMORY3_FAILPOINT=place)
    failed(stored.erase)
    assert stored.retriever.wait() == -9
    stored.start()
    assert stored.problems("first") == []
    restored = stored.restore("first", "between").values()
    assert (f"{SECRET} 0" in restored) == (place == "snapshot.replacing")
    stored.retriever.stub.DeleteBank(retriever_pb2.DeleteBankRequest(name="banks/between"))
    receipt = stored.erase()
    assert "first" in {each.name for each in receipt.places if each.kind == "snapshot"}
    assert not receipt.kept_snapshots
    assert [n for n, data in stored.objects().items() if SECRET.encode() in data] == []
    assert set(stored.restore("first", "again").values()) == {f"text {n}" for n in range(40)}


def test_damaged_objects_are_told_and_kept_out(stored: Stored) -> None:
    """A flipped bit, a cut, missing data and a manifest that is none; sound ones are erased."""
    store = stored.s3.store()
    for name in ("flipped", "cut", "missing", "nothing", "sound"):
        stored.snapshot(name)
    flipped = bytearray(stored.objects()[stored.data_of("flipped")])
    flipped[len(flipped) // 2] ^= 1
    store.put(stored.data_of("flipped"), bytes(flipped))
    store.put(stored.data_of("cut"), stored.objects()[stored.data_of("cut")][:-1])
    store.delete(stored.data_of("missing"))
    store.put(f"{stored.prefix}/nothing/manifest.json", b"{}")
    assert stored.listed() == ["cut", "flipped", "missing", "sound"]
    expected = {
        "flipped": ["SNAPSHOT_CHECKSUM"],
        "cut": ["SNAPSHOT_SIZE"],
        "missing": ["SNAPSHOT_DATA_MISSING"],
        "sound": [],
    }
    assert {name: stored.problems(name) for name in expected} == expected
    for name in ("flipped", "cut", "missing", "nothing"):
        assert isinstance(failed(lambda name=name: stored.restore(name, "copy")), CorruptDataError)
    assert isinstance(failed(lambda: stored.restore("nobody", "copy")), NotFoundError)
    receipt = stored.erase()
    assert [each.name for each in receipt.places if each.kind == "snapshot"] == ["sound"]
    assert list(receipt.kept_snapshots) == ["cut", "flipped", "missing", "nothing"]
    assert set(stored.restore("sound", "copy").values()) == {f"text {n}" for n in range(40)}


def test_generations_and_aliases_go_through_the_store(tmp_path: Path, s3: S3Server) -> None:
    """A reader on the same bucket serves what is published, and follows the alias."""
    shared = f"{s3.url}/{tmp_path.name}"
    (tmp_path / "w").mkdir()
    (tmp_path / "r").mkdir()
    writer = RetrieverProcess(tmp_path / "w", "--cache", "none", "--publish", shared)
    reader = RetrieverProcess(tmp_path / "r", "--cache", "none", "--follow", shared)
    try:
        writer.start({**s3.environment, "MEMORY3_RETRIEVER_PUBLISH_SECONDS": "0"})
        reader.start({**s3.environment, "MEMORY3_RETRIEVER_FOLLOW_SECONDS": "0.1"})
        writer.create("docs", "hnsw:delta=16,m=8")
        writer.add("docs", [f"text {n}" for n in range(60)])
        writer.point("current", "docs")
        writer.admin.PublishBank(bank_admin_pb2.PublishBankRequest(name=DOCS))

        def serves() -> bool:
            try:
                return len(reader.contents("current")) == 60
            except grpc.RpcError:
                return False

        assert eventually(serves)
        assert reader.require_sound("docs") == writer.contents("docs")
    finally:
        reader.close()
        writer.close()


def test_a_store_that_is_away_is_a_typed_error(tmp_path: Path) -> None:
    """Banks answer all the same, and the snapshot is taken when it is back."""
    server = S3Server(tmp_path)
    stored = Stored(tmp_path, server, "snapshots")
    try:
        stored.snapshot("first")
        server.stop()
        assert isinstance(failed(lambda: stored.snapshot("second")), BackendUnavailableError)
        assert len(stored.retriever.require_sound("docs")) == 45
    finally:
        stored.retriever.close()
        server.stop()
