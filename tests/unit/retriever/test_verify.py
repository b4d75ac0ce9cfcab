"""Verifying a bank: a sound one has no problems, and every kind of damage is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory3_retriever.bank.ledger import (
    COUNTERS_KEY,
    MEMORIES,
    META,
    REFERENCES,
    VECTORS,
    NewReference,
)
from memory3_retriever.bank.lookups import METADATA, pairs_of
from memory3_retriever.bank.records import Counters, Reference, vector_to_bytes
from memory3_retriever.bank.sources import SOURCES, source_key
from memory3_retriever.bank.store import BankStore, Statistics
from memory3_retriever.bank.verify import verify_bank

from tests.unit.retriever.banks import item_of, items, new_store
from tests.unit.retriever.encoder_double import envelope_of

VICTIM = items(1, "source")[0].reference
KEY = VICTIM.key
OTHER = items(1, "source", start=1)[0].reference.key
ORPHAN = bytes(range(16))


def flipped(data: bytes) -> bytes:
    """The same with a bit changed near its end."""
    return data[:-3] + bytes([data[-3] ^ 4]) + data[-2:]


def _change(database: bytes, key: bytes, make: Callable[[bytes], bytes | None]) -> Any:
    def change(txn: Any, databases: dict[bytes, Any]) -> None:
        value = make(txn.get(key, b"", db=databases[database]))
        if value is None:
            txn.delete(key, db=databases[database])
        else:
            txn.put(key, value, db=databases[database])

    return change


def _unlist(txn: Any, databases: dict[bytes, Any]) -> None:
    txn.delete(source_key("source"), KEY, db=databases[SOURCES])


def _list_orphan(txn: Any, databases: dict[bytes, Any]) -> None:
    txn.put(source_key("source"), ORPHAN, db=databases[SOURCES])


def _list_under_another(txn: Any, databases: dict[bytes, Any]) -> None:
    txn.put(source_key("another"), KEY, db=databases[SOURCES])


DAMAGES = {
    "REFERENCE_CHECKSUM": _change(REFERENCES, KEY, flipped),
    "VECTOR_MISSING": _change(VECTORS, KEY, lambda _: None),
    "VECTOR_CHECKSUM": _change(VECTORS, KEY, flipped),
    "MEMORY_MISSING": _change(MEMORIES, KEY, lambda _: None),
    "MEMORY_CHECKSUM": _change(MEMORIES, KEY, flipped),
    "MEMORY_CHECKPOINT": _change(MEMORIES, KEY, lambda _: envelope_of("x", "f" * 64)),
    "VECTOR_ORPHAN": _change(
        VECTORS, ORPHAN, lambda _: vector_to_bytes(ORPHAN, item_of("x").vector)
    ),
    "MEMORY_ORPHAN": _change(MEMORIES, ORPHAN, lambda _: item_of("x").envelope),
    "SOURCE_MISSING": _unlist,
    "SOURCE_ORPHAN": _list_orphan,
    "SOURCE_WRONG": _list_under_another,
    "COUNT": _change(META, COUNTERS_KEY, lambda _: Counters(9, 1, 5).to_bytes(COUNTERS_KEY)),
}


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """A bank with three references of one source."""
    store = new_store(tmp_path / "bank")
    store.put(items(3, "source"))
    yield store
    store.close()


def test_a_sound_bank_has_no_problems(store: BankStore) -> None:
    """Everything is read, and nothing is found."""
    report = verify_bank(store)
    assert (report.num_checked, report.problems) == (3, [])


@pytest.mark.parametrize("reason", DAMAGES)
def test_damage_is_told(store: BankStore, reason: str) -> None:
    """Each kind of disagreement is found under its reason, with the reference it concerns."""
    store.environment.write(lambda txn: DAMAGES[reason](txn, store.environment.databases))
    problems = [problem for problem in verify_bank(store).problems if problem.reason == reason]
    assert problems
    concerned = {"COUNT": ""}.get(reason, (ORPHAN if "ORPHAN" in reason else KEY).hex())
    assert problems[0].reference_id == concerned
    assert problems[0].message


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_told(store: BankStore, bad: float) -> None:
    """Even where the checksum is right."""
    vector = item_of("x").vector.copy()
    vector[3] = bad
    record = vector_to_bytes(KEY, vector)
    databases = store.environment.databases
    store.environment.write(lambda txn: txn.put(KEY, record, db=databases[VECTORS]))
    assert [p.reason for p in verify_bank(store).problems] == ["VECTOR_CHECKSUM"]


def test_more_than_one_block_is_read(tmp_path: Path) -> None:
    """A bank larger than what is read at once is read to its end."""
    store = new_store(tmp_path / "large")
    store.put(items(1203, "source"))
    report = verify_bank(store)
    assert (report.num_checked, report.problems) == (1203, [])
    store.environment.write(
        lambda txn: _change(MEMORIES, OTHER, flipped)(txn, store.environment.databases)
    )
    assert [p.reference_id for p in verify_bank(store).problems] == [OTHER.hex()]
    store.close()


def test_a_write_at_any_moment_is_no_damage(
    store: BankStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write between reading the counters and comparing them never looks like a wrong sum."""
    real = store.statistics

    def statistics_then_a_write() -> Statistics:
        found = real()
        store.put([item_of(f"written after revision {found.revision}")])
        return found

    monkeypatch.setattr(store, "statistics", statistics_then_a_write)
    assert verify_bank(store).problems == []
    monkeypatch.undo()
    calls = []

    def statistics_then_a_late_write() -> Statistics:
        found = real()
        calls.append(found)
        if len(calls) == 2:
            store.put([item_of("written late")])
        return found

    monkeypatch.setattr(store, "statistics", statistics_then_a_late_write)
    assert verify_bank(store).problems == []
    assert len(calls) >= 2


def test_lookups_that_disagree_are_told(store: BankStore) -> None:
    """An entry that is missing is told with its reference, one that should not be in the sums."""
    reference = Reference("text", metadata={"lang": "de"}, expire_time_ns=1 << 62)
    store.put([NewReference(reference, item_of("text").vector, item_of("text").envelope)])
    assert verify_bank(store).problems == []
    databases = store.environment.databases
    (pair,) = pairs_of(reference)
    store.environment.write(lambda txn: txn.put(b"lang\0en", reference.key, db=databases[METADATA]))
    assert [p.reason for p in verify_bank(store).problems] == ["COUNT"]
    store.environment.write(lambda txn: txn.delete(pair, reference.key, db=databases[METADATA]))
    (problem,) = verify_bank(store).problems
    assert (problem.reference_id, problem.reason) == (reference.id, "LOOKUP_MISSING")
