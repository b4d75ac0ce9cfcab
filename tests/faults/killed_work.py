"""What a retriever is doing when it is killed, and what must hold of it afterwards."""

from __future__ import annotations

from pathlib import Path
from random import Random

from memory3_retriever.files import sha256_of
from memory3_retriever.replication import generation as generations
from memory3_retriever.replication.shared import SharedStorage

from memory3.v1 import bank_admin_pb2, retriever_pb2
from tests.faults.retrievers import RetrieverProcess

SECRET = "nobody may read this"
DOCS, OTHER, CURRENT, COPY = "banks/docs", "banks/other", "banks/current", "banks/docs-v2"


class Told:
    """What was acknowledged, and what was asked for and not answered.

    Attributes:
        kept: Id and text of every reference that must be there.
        asked: The texts of the addition that was not answered; they are there all or not at all.
        doomed: The ids of the deletion that was not answered; likewise.
        alias: Where the alias was last said to point.
        secrets: The ids of what is to be erased.
    """

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.asked: list[str] = []
        self.doomed: list[str] = []
        self.alias = DOCS
        self.secrets: list[str] = []

    def add(self, retriever: RetrieverProcess, texts: list[str], source: str) -> list[str]:
        """Add to the bank in one request."""
        self.asked = texts
        ids = retriever.add("docs", texts, source)
        self.kept |= dict(zip(ids, texts, strict=True))
        self.asked = []
        return ids

    def delete(self, retriever: RetrieverProcess, ids: list[str]) -> None:
        """Delete from the bank in one request."""
        self.doomed = ids
        assert retriever.delete("docs", ids) == len(ids)
        for each in ids:
            del self.kept[each]
        self.doomed = []


def prepare(retriever: RetrieverProcess, told: Told) -> None:
    """Two banks, an alias, and a snapshot that holds what is to be erased."""
    retriever.create("docs", "hnsw:delta=64,m=8,ef_construction=32")
    retriever.create("other")
    told.secrets = told.add(retriever, [f"{SECRET} {n}" for n in range(8)], "secret")
    told.add(retriever, [f"text {n} to begin with" for n in range(80)], "a.md")
    retriever.stub.SnapshotBank(retriever_pb2.SnapshotBankRequest(name=DOCS, snapshot="before"))
    retriever.point("current", "docs")


def write(retriever: RetrieverProcess, rng: Random, told: Told) -> None:
    """Add, delete, snapshot and restore."""
    for batch in range(12):
        texts = [f"batch {batch} text {n} {rng.random()}" for n in range(24)]
        told.add(retriever, texts, f"source {batch % 3}")
        if batch in (4, 8):
            told.delete(retriever, rng.sample(sorted({*told.kept} - {*told.secrets}), 10))
        if batch == 6:
            request = retriever_pb2.SnapshotBankRequest(name=DOCS, snapshot="meanwhile")
            retriever.stub.SnapshotBank(request)
            restore = retriever_pb2.RestoreBankRequest(snapshot="meanwhile", name="banks/copy")
            retriever.stub.RestoreBank(restore)


def keep_up(retriever: RetrieverProcess, rng: Random, told: Told) -> None:
    """Flip an alias, compact, publish, encode again and erase."""
    for bank in (OTHER, DOCS):
        retriever.admin.SetAlias(bank_admin_pb2.SetAliasRequest(name=CURRENT, bank=bank))
        told.alias = bank
    retriever.admin.CompactBank(bank_admin_pb2.CompactBankRequest(name=DOCS))
    retriever.admin.PublishBank(bank_admin_pb2.PublishBankRequest(name=DOCS))
    told.add(retriever, [f"text {n} {rng.random()}" for n in range(5)], "b.md")
    retriever.admin.PublishBank(bank_admin_pb2.PublishBankRequest(name=DOCS))
    _encode_again(retriever)
    told.doomed = told.secrets
    _erase(retriever, told)


def require_whole(retriever: RetrieverProcess, told: Told, shared: Path) -> None:
    """Nothing acknowledged is lost, nothing is there by halves, and every bank is sound."""
    banks = retriever.stub.ListBanks(retriever_pb2.ListBanksRequest()).banks
    contents = {bank.name: retriever.require_sound(bank.name[6:]) for bank in banks}
    found = contents[DOCS]
    assert told.kept.keys() - set(told.doomed) <= found.keys(), "an acknowledged one is lost"
    extra = {text for id, text in found.items() if id not in told.kept}
    assert extra in (set(), set(told.asked)), "an addition is there by halves"
    deleted = set(told.doomed) - found.keys()
    assert deleted in (set(), set(told.doomed)), "a deletion is there by halves"
    alias = retriever.stub.GetBank(retriever_pb2.GetBankRequest(name=CURRENT)).bank.name
    assert alias in (DOCS, OTHER)
    listed = retriever.admin.ListSnapshots(bank_admin_pb2.ListSnapshotsRequest()).snapshots
    assert "before" in {each.id for each in listed}, "a snapshot is lost"
    for each in listed:
        request = bank_admin_pb2.VerifySnapshotRequest(snapshot=each.id)
        assert not retriever.admin.VerifySnapshot(request).problems
    _require_published(shared)
    data = retriever.data
    leftovers = [path for glob in ("*/.tmp-*", "banks/*/index/.tmp-*") for path in data.glob(glob)]
    assert leftovers == [], "what was begun was not swept"


def finish(retriever: RetrieverProcess, told: Told, shared: Path) -> None:
    """What was broken off is done again, and then it is done."""
    _erase(retriever, told)
    _encode_again(retriever)
    assert retriever.contents("docs-v2") == retriever.contents("docs")
    retriever.admin.CompactBank(bank_admin_pb2.CompactBankRequest(name=DOCS))
    retriever.add("docs", ["written after it"])
    retriever.admin.PublishBank(bank_admin_pb2.PublishBankRequest(name=DOCS))
    # The copy under another name is a bank of its own.
    copies = [bank for bank in ("copy", "docs-v2") if (retriever.data / "banks" / bank).exists()]
    for bank in copies:
        retriever.stub.DeleteBank(retriever_pb2.DeleteBankRequest(name=f"banks/{bank}"))
    assert _holders(retriever.data, SECRET) + _holders(shared, SECRET) == []
    retriever.require_sound("docs")
    for each in ("before", "meanwhile"):
        if (retriever.data / "snapshots" / each).exists():
            request = retriever_pb2.RestoreBankRequest(snapshot=each, name=f"banks/from-{each}")
            retriever.stub.RestoreBank(request)
            retriever.require_sound(f"from-{each}")


def _erase(retriever: RetrieverProcess, told: Told) -> None:
    request = bank_admin_pb2.EraseReferencesRequest(bank=DOCS, ids=told.secrets)
    *_, last = retriever.admin.EraseReferences(request)
    kinds = {place.kind for place in last.receipt.places}
    assert kinds == {"bank", "index", "cache", "snapshot", "generation"}
    assert not last.receipt.kept_snapshots


def _encode_again(retriever: RetrieverProcess) -> None:
    target = retriever_pb2.Bank(name=COPY)
    request = bank_admin_pb2.ReencodeBankRequest(source=DOCS, target=target)
    *_, last = retriever.admin.ReencodeBank(request)
    assert not last.failures


def _require_published(shared: Path) -> None:
    """What readers are told to serve is there, with the hashes that it says."""
    storage = SharedStorage(str(shared), "publish")
    for name in generations.bank_names(storage):
        told = generations.pointed(storage, name)
        if told is None:
            continue
        served = generations.read_manifest(storage, name, told.number)
        assert served is not None, "readers are told of what is not there"
        for file, stored in served.files.items():
            path = shared / generations.folder_of(name, told.number) / file
            assert sha256_of(path) == (stored.sha256, stored.size_bytes)


def _holders(folder: Path, needle: str) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if needle.encode() in path.read_bytes()]
