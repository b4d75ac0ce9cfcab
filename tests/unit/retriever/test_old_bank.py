"""A bank written before there were filters, expiry and quotas opens and has all of them."""

import json
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from memory3_retriever.bank.records import Reference, seal, vector_to_bytes

from memory3.v1 import retriever_pb2
from tests.unit.retriever.calls import add_references, retrieve, search, text_query
from tests.unit.retriever.conftest import RunningRetriever
from tests.unit.retriever.encoder_double import DIMENSIONS, envelope_of, vector_of

TEXTS = {"Ada sails.": "en", "Ada segelt.": "de", "Ben rows.": "en"}


def write_old_bank(folder: Path, digest: str) -> None:
    """The files as they were written before, byte for byte."""
    folder.mkdir(parents=True)
    environment = lmdb.open(str(folder), map_size=1 << 22, max_dbs=5)
    databases = {
        name: environment.open_db(name, dupsort=name == b"sources", dupfixed=name == b"sources")
        for name in (b"meta", b"references", b"vectors", b"memories", b"sources")
    }
    info = {
        "name": "docs", "uid": "u" * 32, "checkpoint_digest": digest,
        "embedder": {"name": "lexical", "digest": "e" * 64, "dimensions": DIMENSIONS},
        "index": "exact", "codec": "raw", "write_policy": "eager", "description": "old",
        "create_time_ns": 1,
    }  # fmt: skip
    envelopes = {text: envelope_of(text, digest) for text in TEXTS}
    counters = {
        "revision": 7, "num_sources": 1, "memory_bytes": sum(map(len, envelopes.values())),
    }  # fmt: skip

    def sealed(key: bytes, values: dict[str, object]) -> bytes:
        return seal(key, json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode())

    with environment.begin(write=True) as txn:
        txn.put(b"info", sealed(b"info", info), db=databases[b"meta"])
        txn.put(b"counters", sealed(b"counters", counters), db=databases[b"meta"])
        txn.put(b"sources in order", b"1", db=databases[b"meta"])
        for text, lang in TEXTS.items():
            key = Reference(text, source="a", title=f"in {lang}").key
            record: dict[str, object] = {
                "text": text, "source": "a", "title": f"in {lang}", "num_tokens": 2,
                "metadata": {"lang": lang}, "create_time_ns": 5,
            }  # fmt: skip
            txn.put(key, sealed(key, record), db=databases[b"references"])
            txn.put(key, vector_to_bytes(key, vector_of(text)), db=databases[b"vectors"])
            txn.put(key, envelopes[text], db=databases[b"memories"])
            txn.put(b"a", key, db=databases[b"sources"])
    environment.close()


def condition(key: str, value: str) -> retriever_pb2.Filter:
    """Only those."""
    return retriever_pb2.Filter(conditions=[retriever_pb2.Condition(key=key, equals=value)])


@pytest.fixture
def old(start_retriever: Callable[..., RunningRetriever], tmp_path: Path) -> RunningRetriever:
    """A retriever started on such a bank."""
    checkpoint = start_retriever().loaded.models.main.checkpoint
    write_old_bank(tmp_path / "data" / "banks" / "docs", checkpoint.digest)
    return start_retriever()


def test_an_old_bank_opens_whole(old: RunningRetriever) -> None:
    """With what it had, defaults for what it had not, and every check passed."""
    bank = old.stub.GetBank(retriever_pb2.GetBankRequest(name="banks/docs")).bank
    assert (bank.description, bank.quota_bytes, bank.HasField("default_ttl")) == ("old", 0, False)
    assert bank.durability == retriever_pb2.DURABILITY_FSYNC
    assert (bank.statistics.num_references, bank.statistics.num_memories) == (3, 3)
    assert (bank.statistics.num_sources, bank.statistics.num_expiring) == (1, 0)
    assert retrieve(old, text_query("Ada"), k=3).envelopes.keys() == {
        Reference(text, source="a", title=f"in {lang}").id for text, lang in TEXTS.items()
    }
    assert old.loaded.catalog.get("docs").verify().problems == []


def test_an_old_bank_is_filtered(old: RunningRetriever) -> None:
    """By metadata, title and source, old and new references alike."""
    assert set(search(old, "Ada", filter=condition("lang", "en"))[0]) == {"Ada sails.", "Ben rows."}
    assert search(old, "Ada", filter=condition("$title", "in de")) == [["Ada segelt."]]
    assert len(search(old, "Ada", filter=condition("$source", "a"))[0]) == 3
    add_references(old, "Cyd drives.", metadata={"lang": "de"})
    assert set(search(old, "Ada", filter=condition("lang", "de"))[0]) == {
        "Ada segelt.", "Cyd drives.",
    }  # fmt: skip


def test_the_bytes_of_an_old_bank_are_counted(old: RunningRetriever) -> None:
    """As if it had been written today: nothing is left when everything is deleted."""
    store = old.loaded.catalog.get("docs").store
    assert store.statistics().used_bytes > store.statistics().memory_bytes
    old.stub.DeleteReferences(retriever_pb2.DeleteReferencesRequest(bank="banks/docs", source="a"))
    assert store.statistics().used_bytes == 0


def test_an_old_bank_is_read_through_only_once(
    old: RunningRetriever, start_retriever: Callable[..., RunningRetriever]
) -> None:
    """The next start changes nothing."""
    revision = old.loaded.catalog.get("docs").store.counters().revision
    assert revision == 8
    again = start_retriever()
    assert again.loaded.catalog.get("docs").store.counters().revision == revision
