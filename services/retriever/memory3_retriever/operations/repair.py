"""Mending a bank: what cannot be read goes, what can be derived is derived anew.

A damaged memory is dropped, to be written again at the next retrieval or warming. A reference whose
text or vector cannot be read is removed and named. Everything that is looked up, and all sums, are
made anew from what remains.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from memory3.errors import CheckpointMismatchError, CorruptDataError
from memory3.memory.envelope import verify as verify_envelope
from memory3_retriever.bank.deriving import derive
from memory3_retriever.bank.environment import Transaction
from memory3_retriever.bank.ledger import (
    COUNTERS_KEY,
    MEMORIES,
    META,
    REFERENCES,
    VECTORS,
)
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.records import Counters, Reference, vector_from_bytes
from memory3_retriever.bank.verify import Problem

MAX_REPAIRS = 1000
_BLOCK = 500

REMOVED = "it was removed; add its document again"
DROPPED = "the memory was dropped; it is written anew at the next retrieval or warming"
_DERIVED = "it was derived anew"
_READING = ("REFERENCE_CHECKSUM", "VECTOR_CHECKSUM", "VECTOR_MISSING")
_MEMORY = ("MEMORY_CHECKSUM", "MEMORY_CHECKPOINT")
# Nothing is wrong with a reference whose memory is only not written.
_NO_DAMAGE = "MEMORY_MISSING"


@dataclass(slots=True)
class RepairReport:
    """What was wrong and what became of it (or would, where nothing was to be changed)."""

    num_checked: int = 0
    repairs: list[Problem] = field(default_factory=list)
    num_memories_dropped: int = 0
    num_references_removed: int = 0
    index_rebuilt: bool = False


@dataclass(slots=True)
class _Damage:
    num_checked: int = 0
    unreadable: dict[bytes, Problem] = field(default_factory=dict)
    memories: dict[bytes, Problem] = field(default_factory=dict)


def repair(bank: LiveBank, *, dry_run: bool) -> RepairReport:
    """Mend a bank while it is read.

    Args:
        bank: The bank.
        dry_run: Only tell.
    """
    damage = _look(bank)
    report = RepairReport(
        num_checked=damage.num_checked,
        repairs=[*damage.unreadable.values(), *damage.memories.values()],
        num_memories_dropped=len(damage.memories),
        num_references_removed=len(damage.unreadable),
    )
    told = (*_READING, *_MEMORY, _NO_DAMAGE)
    others = [each for each in bank.verify().problems if each.reason not in told]
    report.repairs += [Problem(each.reference_id, each.reason, _DERIVED) for each in others]
    del report.repairs[MAX_REPAIRS:]
    if report.repairs and not dry_run:
        _mend(bank, damage)
        bank.rebuild_index()
        report.index_rebuilt = True
    return report


def _look(bank: LiveBank) -> _Damage:
    damage, after = _Damage(), b""
    while True:
        with bank.store.environment.read() as txn:
            keys = _next_keys(txn, bank, after)
            for key in keys:
                _look_at(txn, bank, key, damage)
        if not keys:
            return damage
        damage.num_checked += len(keys)
        after = keys[-1]


def _next_keys(txn: Transaction, bank: LiveBank, after: bytes) -> list[bytes]:
    keys: list[bytes] = []
    with txn.cursor(bank.store.environment.databases[REFERENCES]) as cursor:
        if cursor.set_range(after + b"\x00" if after else b""):
            for key in cursor.iternext(values=False):
                keys.append(key)
                if len(keys) == _BLOCK:
                    break
    return keys


def _look_at(txn: Transaction, bank: LiveBank, key: bytes, damage: _Damage) -> None:
    db, info = bank.store.environment.databases, bank.info
    try:
        Reference.from_bytes(key, txn.get(key, db=db[REFERENCES]))
    except CorruptDataError:
        damage.unreadable[key] = _problem(key, "REFERENCE_CHECKSUM", "its text", REMOVED)
        return
    vector = txn.get(key, db=db[VECTORS])
    try:
        vector_from_bytes(key, vector or b"", info.embedder.dimensions)
    except CorruptDataError:
        reason = "VECTOR_MISSING" if vector is None else "VECTOR_CHECKSUM"
        damage.unreadable[key] = _problem(key, reason, "its vector", REMOVED)
        return
    envelope = txn.get(key, db=db[MEMORIES])
    if envelope is None:
        return
    try:
        verify_envelope(envelope, checkpoint_digest=info.checkpoint_digest)
    except CorruptDataError:
        damage.memories[key] = _problem(key, "MEMORY_CHECKSUM", "its memory", DROPPED)
    except CheckpointMismatchError:
        damage.memories[key] = Problem(
            key.hex(), "MEMORY_CHECKPOINT", f"its memory is another checkpoint's; {DROPPED}"
        )


def _problem(key: bytes, reason: str, what: str, done: str) -> Problem:
    return Problem(key.hex(), reason, f"{what} cannot be read; {done}")


def _mend(bank: LiveBank, damage: _Damage) -> None:
    """One transaction: damaged records go, and all that is derived from the others is made anew."""
    db = bank.store.environment.databases

    def change(txn: Transaction) -> None:
        for key in damage.unreadable:
            for database in (REFERENCES, VECTORS, MEMORIES):
                txn.delete(key, db=db[database])
        for key in damage.memories:
            txn.delete(key, db=db[MEMORIES])
        for database in (VECTORS, MEMORIES):
            for key in _orphans(txn, db, database):
                txn.delete(key, db=db[database])
        before = Counters.from_bytes(COUNTERS_KEY, txn.get(COUNTERS_KEY, b"", db=db[META]))
        derive(txn, db, before.revision + 1)

    bank.store.environment.write(change)


def _orphans(txn: Transaction, db: dict[bytes, object], database: bytes) -> list[bytes]:
    with txn.cursor(db[database]) as cursor:
        keys = list(cursor.iternext(values=False))
    return [key for key in keys if txn.get(key, db=db[REFERENCES]) is None]
