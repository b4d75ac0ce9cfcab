"""The writes of one transaction, and the sums that they change.

It must not know how transactions begin or end; ``memory3_retriever.bank.store`` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from memory3.errors import CorruptDataError, InvalidArgumentError
from memory3_retriever.bank.environment import Transaction
from memory3_retriever.bank.records import Counters, Reference, Vectors, vector_to_bytes
from memory3_retriever.bank.sources import ORDERED_KEY, SOURCES, put_in_order, source_key

META, REFERENCES, VECTORS, MEMORIES = (b"meta", b"references", b"vectors", b"memories")
COUNTERS_KEY = b"counters"


@dataclass(frozen=True, slots=True)
class NewReference:
    """A reference to be stored, with its vector and, where it is written already, its memory."""

    reference: Reference
    vector: Vectors
    envelope: bytes | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What a transaction did.

    Attributes:
        revision: The bank's revision after it.
        added: The keys of the new references.
        removed: The keys of the references that are gone.
        updated: The keys of the references that were there and have other metadata now.
        num_removed_by_source: How many went because their source no longer contains them.
    """

    revision: int
    added: tuple[bytes, ...] = ()
    removed: tuple[bytes, ...] = ()
    updated: tuple[bytes, ...] = ()
    num_removed_by_source: Mapping[str, int] = field(default_factory=dict)


class Ledger:
    """Writes within one transaction.

    Args:
        txn: A transaction that writes.
        databases: The environment's databases by name.
        counters: The sums before it.

    Attributes:
        added: The keys of the references added so far.
        removed: The keys of the references removed so far.
        updated: The keys of the references whose metadata were replaced so far.
    """

    def __init__(
        self, txn: Transaction, databases: Mapping[bytes, Any], counters: Counters
    ) -> None:
        self._txn = txn
        self._db = databases
        self._before = counters
        self._num_sources = counters.num_sources
        self._memory_bytes = counters.memory_bytes
        self._num_memories = 0
        self._is_reordered = False
        self.added: list[bytes] = []
        self.removed: list[bytes] = []
        self.updated: list[bytes] = []

    def add(self, item: NewReference, now: int) -> None:
        """Store a reference, unless it is there; its memory also where only that is missing."""
        reference, key = item.reference, item.reference.key
        if self._txn.get(key, db=self._db[REFERENCES]) is None:
            if not np.isfinite(item.vector).all():
                raise InvalidArgumentError("the vector is not finite", field="vector")
            record = replace(reference, create_time_ns=now).to_bytes()
            self._txn.put(key, record, db=self._db[REFERENCES])
            self._txn.put(key, vector_to_bytes(key, item.vector), db=self._db[VECTORS])
            self._enter_source(reference.source, key)
            self.added.append(key)
        if item.envelope is not None:
            self.add_memory(key, item.envelope)

    def update(self, reference: Reference, now: int) -> None:
        """Give a reference that is there these metadata; vector and memory do not depend on them.

        A record that is damaged is written anew: its content is at hand.
        """
        key = reference.key
        data = self._txn.get(key, db=self._db[REFERENCES])
        if data is None:
            return
        try:
            stored = Reference.from_bytes(key, data)
            if stored.metadata == reference.metadata:
                return
            now = stored.create_time_ns
        except CorruptDataError:
            pass
        record = replace(reference, create_time_ns=now).to_bytes()
        self._txn.put(key, record, db=self._db[REFERENCES])
        self.updated.append(key)

    def add_memory(self, key: bytes, envelope: bytes) -> None:
        """Store the memory of a reference that is there and has none."""
        if self._txn.get(key, db=self._db[REFERENCES]) is None:
            return
        if self._txn.put(key, envelope, db=self._db[MEMORIES], overwrite=False):
            self._memory_bytes += len(envelope)
            self._num_memories += 1

    def remove(self, key: bytes) -> None:
        """Remove a reference with all that belongs to it, if it is there."""
        data = self._txn.pop(key, db=self._db[REFERENCES])
        if data is None:
            return
        self._txn.delete(key, db=self._db[VECTORS])
        envelope = self._txn.pop(key, db=self._db[MEMORIES])
        self._memory_bytes -= len(envelope or b"")
        self._leave_source(data, key)
        self.removed.append(key)

    def put_sources_in_order(self) -> None:
        """Bring the sources of a bank from before to the keys that are used now."""
        if self._txn.get(ORDERED_KEY, db=self._db[META]) is None:
            self._num_sources = put_in_order(self._txn, self._db, REFERENCES)
            self._txn.put(ORDERED_KEY, b"1", db=self._db[META])
            self._is_reordered = True

    def close(self) -> Change:
        """Write the sums; nothing is written where nothing has changed."""
        changed = (
            self.added or self.removed or self.updated or self._num_memories or self._is_reordered
        )
        revision = self._before.revision + bool(changed)
        if changed:
            counters = Counters(revision, self._num_sources, self._memory_bytes)
            self._txn.put(COUNTERS_KEY, counters.to_bytes(COUNTERS_KEY), db=self._db[META])
        return Change(revision, tuple(self.added), tuple(self.removed), tuple(self.updated))

    def _enter_source(self, source: str, key: bytes) -> None:
        if not source:
            return
        with self._txn.cursor(self._db[SOURCES]) as cursor:
            self._num_sources += not cursor.set_key(source_key(source))
        self._txn.put(source_key(source), key, db=self._db[SOURCES])

    def _leave_source(self, data: bytes, key: bytes) -> None:
        source = self._source_of(data, key)
        if not source:
            return
        self._txn.delete(source, key, db=self._db[SOURCES])
        with self._txn.cursor(self._db[SOURCES]) as cursor:
            self._num_sources -= not cursor.set_key(source)

    def _source_of(self, data: bytes, key: bytes) -> bytes:
        """The source key of a record about to go; a damaged record is looked for in them all."""
        try:
            source = Reference.from_bytes(key, data).source
        except CorruptDataError:
            with self._txn.cursor(self._db[SOURCES]) as cursor:
                return next((found for found, value in cursor if value == key), b"")
        return source_key(source) if source else b""
