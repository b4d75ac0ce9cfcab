"""Reading everything in a bank and telling what does not agree.

Works through the keys in blocks, each in a transaction of its own, so that writes and a growing map
never wait for it; what belongs to one reference is always judged in one consistent view.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from memory3.errors import CheckpointMismatchError, CorruptDataError
from memory3.memory.envelope import verify as verify_envelope
from memory3_retriever.bank.environment import Transaction
from memory3_retriever.bank.ledger import MEMORIES, REFERENCES, VECTORS
from memory3_retriever.bank.lookups import KEY_BYTES, entries_of
from memory3_retriever.bank.reading import Statistics
from memory3_retriever.bank.records import Reference, vector_from_bytes
from memory3_retriever.bank.sources import SOURCES, source_key
from memory3_retriever.bank.store import BankStore

MAX_PROBLEMS = 1000
_BLOCK = 500
_REWRITE = "delete the reference and add it again, or restore the bank from a snapshot"


@dataclass(frozen=True, slots=True)
class Problem:
    """One disagreement: the reference's id (empty for the bank itself), reason and message."""

    reference_id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """How many references were read, and at most ``MAX_PROBLEMS`` problems."""

    num_checked: int
    problems: list[Problem]


def verify_bank(store: BankStore) -> Report:
    """Read every record of a bank.

    Args:
        store: An open bank; reads and writes may go on meanwhile.
    """
    return _Check(store).run()


class _Check:
    def __init__(self, store: BankStore) -> None:
        self._store = store
        self._db = store.environment.databases
        self._problems: list[Problem] = []
        self._num_checked = 0
        self._num_memories = 0
        self._memory_bytes = 0
        self._num_sources = 0
        self._num_lookups = 0
        self._used_bytes = 0

    def run(self) -> Report:
        # Sums are compared with the counters only where no write came in between, and with the
        # counters read before: a third reading could already hold the next write.
        before = self._store.statistics()
        for txn, keys in self._blocks(REFERENCES):
            for key in keys:
                self._check_reference(txn, key)
            self._num_checked += len(keys)
        self._check_orphans(VECTORS, "VECTOR_ORPHAN", "a vector")
        self._check_orphans(MEMORIES, "MEMORY_ORPHAN", "a memory")
        for txn, sources in self._blocks(SOURCES):
            self._num_sources += len(sources)
            for source in sources:
                self._check_source(txn, source)
        num_lookups = self._store.num_lookups()
        if self._store.statistics() == before:
            self._check_sums(before, num_lookups)
        return Report(self._num_checked, self._problems[:MAX_PROBLEMS])

    def _blocks(self, database: bytes) -> Iterator[tuple[Transaction, list[bytes]]]:
        after = b""
        while True:
            with self._store.environment.read() as txn:
                keys = _keys_after(txn, self._db[database], after)
                if keys:
                    yield txn, keys
            if not keys or len(self._problems) >= MAX_PROBLEMS:
                return
            after = keys[-1]

    def _check_reference(self, txn: Transaction, key: bytes) -> None:
        data = txn.get(key, db=self._db[REFERENCES])
        self._used_bytes += KEY_BYTES + len(data)
        try:
            reference = Reference.from_bytes(key, data)
        except CorruptDataError as error:
            self._add(key, "REFERENCE_CHECKSUM", error.message)
        else:
            self._check_lookups(txn, reference)
            if reference.source:
                with txn.cursor(self._db[SOURCES]) as cursor:
                    if not cursor.set_key_dup(source_key(reference.source), key):
                        self._add(key, "SOURCE_MISSING", "its source does not list it")
        self._check_vector(txn, key)
        self._check_memory(txn, key)

    def _check_lookups(self, txn: Transaction, reference: Reference) -> None:
        for database, found_by in entries_of(reference):
            self._num_lookups += 1
            self._used_bytes += len(found_by) + KEY_BYTES
            with txn.cursor(self._db[database]) as cursor:
                if not cursor.set_key_dup(found_by, reference.key):
                    name = database.decode()
                    self._add(reference.key, "LOOKUP_MISSING", f"it is not found by its {name}")

    def _check_vector(self, txn: Transaction, key: bytes) -> None:
        data = txn.get(key, db=self._db[VECTORS])
        if data is None:
            self._add(key, "VECTOR_MISSING", "it has no vector, so no search finds it")
            return
        self._used_bytes += KEY_BYTES + len(data)
        try:
            vector_from_bytes(key, data, self._store.info.embedder.dimensions)
        except CorruptDataError as error:
            self._add(key, "VECTOR_CHECKSUM", error.message)

    def _check_memory(self, txn: Transaction, key: bytes) -> None:
        envelope = txn.get(key, db=self._db[MEMORIES])
        if envelope is None:
            if self._store.info.write_policy == "eager":
                self._add(key, "MEMORY_MISSING", "its memory is not written")
            return
        self._num_memories += 1
        self._memory_bytes += len(envelope)
        self._used_bytes += KEY_BYTES + len(envelope)
        try:
            verify_envelope(envelope, checkpoint_digest=self._store.info.checkpoint_digest)
        except CorruptDataError as error:
            self._add(key, "MEMORY_CHECKSUM", error.message)
        except CheckpointMismatchError as error:
            self._add(key, "MEMORY_CHECKPOINT", error.message)

    def _check_orphans(self, database: bytes, reason: str, what: str) -> None:
        for txn, keys in self._blocks(database):
            for key in keys:
                if txn.get(key, db=self._db[REFERENCES]) is None:
                    self._add(key, reason, f"{what} without a reference")

    def _check_source(self, txn: Transaction, source: bytes) -> None:
        with txn.cursor(self._db[SOURCES]) as cursor:
            cursor.set_key(source)
            for key in cursor.iternext_dup():
                self._used_bytes += len(source) + KEY_BYTES
                data = txn.get(key, db=self._db[REFERENCES])
                if data is None:
                    self._add(key, "SOURCE_ORPHAN", "a source lists it, but there is no reference")
                elif not _is_of(key, data, source):
                    self._add(key, "SOURCE_WRONG", "a source lists it that is not its own")

    def _check_sums(self, expected: Statistics, num_lookups: int) -> None:
        found = {
            "references": (self._num_checked, expected.num_references),
            "memories": (self._num_memories, expected.num_memories),
            "bytes of memories": (self._memory_bytes, expected.memory_bytes),
            "sources": (self._num_sources, expected.num_sources),
            "entries to look up": (self._num_lookups, num_lookups),
            "bytes in use": (self._used_bytes, expected.used_bytes),
        }
        for what, (actual, counted) in found.items():
            if actual != counted:
                self._add(b"", "COUNT", f"{actual} {what} were found, but {counted} are counted")

    def _add(self, key: bytes, reason: str, message: str) -> None:
        self._problems.append(Problem(key.hex(), reason, f"{message}; {_REWRITE}"))


def _is_of(key: bytes, data: bytes, source: bytes) -> bool:
    try:
        return source_key(Reference.from_bytes(key, data).source) == source
    except CorruptDataError:
        return True  # told as REFERENCE_CHECKSUM


def _keys_after(txn: Transaction, database: Any, after: bytes) -> list[bytes]:
    with txn.cursor(database) as cursor:
        if not cursor.set_range(after + b"\x00" if after else b""):
            return []
        keys: list[bytes] = []
        for key in cursor.iternext_nodup(keys=True, values=False):
            keys.append(key)
            if len(keys) == _BLOCK:
                break
        return keys
