"""Whether the keys of a bank belong together: every way in which they may not is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from memory3_retriever.bank.ledger import MEMORIES, REFERENCES, VECTORS
from memory3_retriever.bank.sources import SOURCES, source_key
from memory3_retriever.bank.store import BankStore
from memory3_retriever.bank.whole import require_whole

from memory3.errors import CorruptDataError
from tests.unit.retriever.banks import item_of, items, new_store, open_store

Change = Callable[[Any, Any, bytes, bytes], None]


@pytest.fixture
def store(tmp_path: Path) -> BankStore:
    """A bank with two sources, a reference without one, and one without a memory."""
    store = new_store(tmp_path / "bank")
    store.put([*items(3, "a.md"), *items(3, "b.md", start=3), item_of("no source")])
    store.put([item_of("no memory", "b.md", memory=False)])
    return store


def look(store: BankStore) -> None:
    """What opening the bank looks at."""
    with store.environment.read() as txn:
        require_whole(txn, store.environment.databases, "banks/docs")


def put(database: bytes, value: bytes = b"x") -> Change:
    """A record of nothing that is there."""
    return lambda txn, db, first, second: txn.put(bytes(16), value, db=db[database])


def remove(database: bytes) -> Change:
    """Take out one record."""
    return lambda txn, db, first, second: txn.delete(first, db=db[database])


@pytest.mark.parametrize(
    "change",
    [
        remove(REFERENCES),
        remove(VECTORS),
        put(REFERENCES),
        put(VECTORS),
        put(MEMORIES),
        lambda txn, db, first, second: txn.put(b"c.md", bytes(16), db=db[SOURCES]),
        lambda txn, db, first, second: txn.put(b"c.md", first, db=db[SOURCES]),
    ],
    ids=[
        "reference missing", "vector missing", "reference too many", "vector too many",
        "memory of none", "source of none", "source of another",
    ],
)  # fmt: skip
def test_keys_without_their_counterparts_are_refused(store: BankStore, change: Change) -> None:
    """The error names the bank and the way out; opening the bank is refused like that as well."""
    look(store)
    first, second = (item.reference.key for item in items(2, "a.md"))
    store.environment.write(lambda txn: change(txn, store.environment.databases, first, second))
    with pytest.raises(CorruptDataError) as raised:
        look(store)
    assert raised.value.metadata == {"resource": "banks/docs"}
    assert raised.value.remedy
    path = store.environment.path
    store.close()
    with pytest.raises(CorruptDataError):
        open_store(path)


def test_a_memory_that_is_not_written_and_a_text_that_is_damaged_are_no_matter_here(
    store: BankStore,
) -> None:
    """The one is as it should be, the other has a checksum that tells of it when it is read."""
    key = items(1, "a.md")[0].reference.key

    def change(txn: Any) -> None:
        db = store.environment.databases
        value = bytearray(txn.get(key, db=db[REFERENCES]))
        value[-2] ^= 1
        txn.put(key, bytes(value), db=db[REFERENCES])

    store.environment.write(change)
    look(store)
    with pytest.raises(CorruptDataError):
        store.get([key])


def test_long_sources_are_told_from_others_that_begin_alike(tmp_path: Path) -> None:
    """Their keys have a hash, which is compared as well."""
    store = new_store(tmp_path / "bank")
    long = "x" * 600
    store.put([item_of("one", f"{long}1"), item_of("two", f"{long}2")])
    look(store)
    (key,) = (item_of("one", f"{long}1").reference.key,)

    def change(txn: Any) -> None:
        sources = store.environment.databases[SOURCES]
        txn.delete(source_key(f"{long}2"), db=sources)
        txn.put(source_key(f"{long}2"), key, db=sources)

    store.environment.write(change)
    with pytest.raises(CorruptDataError):
        look(store)
    store.close()
