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
from memory3_retriever.bank.lookups import KEY_BYTES, LOOKUPS_KEY, Lookups, enter_all
from memory3_retriever.bank.records import (
    Counters,
    Reference,
    Vectors,
    is_live,
    vector_to_bytes,
)
from memory3_retriever.bank.sources import ORDERED_KEY, SOURCES, put_in_order, source_key

META, REFERENCES, VECTORS, MEMORIES = (b"meta", b"references", b"vectors", b"memories")
INFO_KEY, COUNTERS_KEY = b"info", b"counters"
# The keys of what is being erased, while it is.
ERASING_KEY = b"erasing"


@dataclass(frozen=True, slots=True)
class NewReference:
    """A reference to be stored, with its vector and, where it is written already, its memory."""

    reference: Reference
    vector: Vectors
    envelope: bytes | None = None

    @property
    def num_bytes(self) -> int:
        """About what storing it writes."""
        return len(self.reference.text) + self.vector.nbytes + len(self.envelope or b"")


@dataclass(frozen=True, slots=True)
class Change:
    """What a transaction did.

    Attributes:
        revision: The bank's revision after it.
        added: The keys of the new references.
        removed: The keys of the references that are gone.
        updated: The keys of the references that were there and have other metadata now.
        rewritten: The keys of the references that were there and have another vector and memory.
        num_removed_by_source: How many went because their source no longer contains them.
    """

    revision: int
    added: tuple[bytes, ...] = ()
    removed: tuple[bytes, ...] = ()
    updated: tuple[bytes, ...] = ()
    rewritten: tuple[bytes, ...] = ()
    num_removed_by_source: Mapping[str, int] = field(default_factory=dict)


class Ledger:
    """Writes within one transaction.

    Args:
        txn: A transaction that writes.
        databases: The environment's databases by name.
        counters: The sums before it.
        now: The time, in nanoseconds since 1970.

    Attributes:
        added: The keys of the references added so far.
        removed: The keys of the references removed so far.
        updated: The keys of the references whose metadata were replaced so far.
        rewritten: The keys of the references whose vector and memory were replaced so far.
        now: The time of the transaction.
    """

    def __init__(
        self, txn: Transaction, databases: Mapping[bytes, Any], counters: Counters, now: int = 0
    ) -> None:
        self._txn = txn
        self._db = databases
        self.now = now
        self._before = counters
        self._lookups = Lookups(txn, databases)
        self._num_sources = counters.num_sources
        self._memory_bytes = counters.memory_bytes
        self._num_bytes = 0
        self._is_changed = False
        self.added: list[bytes] = []
        self.removed: list[bytes] = []
        self.updated: list[bytes] = []
        self.rewritten: list[bytes] = []

    @property
    def used_bytes(self) -> int:
        """The bytes of all records as they are now."""
        return self._before.used_bytes + self._num_bytes + self._lookups.num_bytes

    @property
    def used_bytes_before(self) -> int:
        """The bytes of all records before the transaction."""
        return self._before.used_bytes

    def add(self, item: NewReference) -> None:
        """Store a reference, unless it is there; its memory also where only that is missing."""
        reference, key = item.reference, item.reference.key
        self._remove_expired(key)
        if self._txn.get(key, db=self._db[REFERENCES]) is None:
            vector = _stored_vector(key, item.vector)
            self._put_reference(replace(reference, create_time_ns=self.now))
            self._txn.put(key, vector, db=self._db[VECTORS])
            self._num_bytes += KEY_BYTES + len(vector)
            self._enter_source(reference.source, key)
            self.added.append(key)
        if item.envelope is not None:
            self.add_memory(key, item.envelope)

    def overwrite(self, item: NewReference) -> None:
        """Store a reference; one that is there takes its metadata, expiry, vector and memory."""
        reference, key = item.reference, item.reference.key
        self._remove_expired(key)
        if self._txn.get(key, db=self._db[REFERENCES]) is None:
            self.add(item)
            return
        vector = _stored_vector(key, item.vector)
        self.update(reference)
        old = self._txn.replace(key, vector, db=self._db[VECTORS])
        # A damaged bank may lack the vector.
        self._num_bytes += len(vector) - (-KEY_BYTES if old is None else len(old))
        self.drop_memory(key)
        if item.envelope is not None:
            self.add_memory(key, item.envelope)
        if key not in self.added:
            self.rewritten.append(key)
        self._is_changed = True

    def update(self, reference: Reference) -> None:
        """Give a reference that is there these metadata and this expiry.

        Vector and memory do not depend on them. A record that is damaged is written anew: its
        content is at hand.
        """
        key = reference.key
        data = self._txn.get(key, db=self._db[REFERENCES])
        if data is None:
            return
        created, changes = self.now, True
        try:
            stored = Reference.from_bytes(key, data)
        except CorruptDataError:
            self._lookups.purge(key)
        else:
            changes = stored.metadata != reference.metadata
            if not changes and stored.expire_time_ns == reference.expire_time_ns:
                return
            created = stored.create_time_ns
            self._lookups.leave(stored)
        self._num_bytes -= KEY_BYTES + len(data)
        self._put_reference(replace(reference, create_time_ns=created))
        self._is_changed = True
        if changes:
            self.updated.append(key)

    def add_memory(self, key: bytes, envelope: bytes) -> None:
        """Store the memory of a reference that is there and has none."""
        if self._txn.get(key, db=self._db[REFERENCES]) is None:
            return
        if self._txn.put(key, envelope, db=self._db[MEMORIES], overwrite=False):
            self._memory_bytes += len(envelope)
            self._num_bytes += KEY_BYTES + len(envelope)
            self._is_changed = True

    def remove(self, key: bytes) -> None:
        """Remove a reference with all that belongs to it, if it is there."""
        data = self._txn.pop(key, db=self._db[REFERENCES])
        if data is None:
            return
        self._num_bytes -= KEY_BYTES + len(data)
        vector = self._txn.pop(key, db=self._db[VECTORS])
        self._num_bytes -= 0 if vector is None else KEY_BYTES + len(vector)
        self.drop_memory(key)
        self._leave(data, key)
        self.removed.append(key)

    def put_sources_in_order(self) -> None:
        """Bring the sources of a bank from before to the keys that are used now."""
        if self._txn.get(ORDERED_KEY, db=self._db[META]) is None:
            self._num_sources = put_in_order(self._txn, self._db, REFERENCES)
            self._txn.put(ORDERED_KEY, b"1", db=self._db[META])
            self._is_changed = True

    def fill_lookups(self, vector_bytes: int) -> None:
        """Make the references of a bank from before found by what they say, and count its bytes.

        Args:
            vector_bytes: The length of a vector's record.
        """
        if self._txn.get(LOOKUPS_KEY, db=self._db[META]) is not None:
            return
        num_vectors, num_memories = (
            self._txn.stat(self._db[database])["entries"] for database in (VECTORS, MEMORIES)
        )
        used = enter_all(self._txn, self._db, REFERENCES) + self._memory_bytes
        used += num_vectors * (KEY_BYTES + vector_bytes) + num_memories * KEY_BYTES
        self._num_bytes = used - self._before.used_bytes
        self._txn.put(LOOKUPS_KEY, b"1", db=self._db[META])
        self._is_changed = True

    def close(self) -> Change:
        """Write the sums; nothing is written where nothing has changed."""
        changed = bool(self.added or self.removed or self._is_changed)
        revision = self._before.revision + changed
        if changed:
            counters = Counters(revision, self._num_sources, self._memory_bytes, self.used_bytes)
            self._txn.put(COUNTERS_KEY, counters.to_bytes(COUNTERS_KEY), db=self._db[META])
        return Change(
            revision,
            added=tuple(self.added),
            removed=tuple(self.removed),
            updated=tuple(self.updated),
            rewritten=tuple(self.rewritten),
        )

    def _put_reference(self, reference: Reference) -> None:
        record = reference.to_bytes()
        self._txn.put(reference.key, record, db=self._db[REFERENCES])
        self._num_bytes += KEY_BYTES + len(record)
        self._lookups.enter(reference)

    def _remove_expired(self, key: bytes) -> None:
        """Where the same content is added again, what is forgotten already must not stay."""
        data = self._txn.get(key, db=self._db[REFERENCES])
        try:
            if data is not None and not is_live(key, data, self.now):
                self.remove(key)
        except CorruptDataError:
            pass

    def drop_memory(self, key: bytes) -> None:
        """Remove the memory of a reference, if it has one."""
        envelope = self._txn.pop(key, db=self._db[MEMORIES])
        if envelope is not None:
            self._memory_bytes -= len(envelope)
            self._num_bytes -= KEY_BYTES + len(envelope)
            self._is_changed = True

    def _enter_source(self, source: str, key: bytes) -> None:
        if not source:
            return
        found_by = source_key(source)
        with self._txn.cursor(self._db[SOURCES]) as cursor:
            self._num_sources += not cursor.set_key(found_by)
        if self._txn.put(found_by, key, db=self._db[SOURCES], dupdata=False):
            self._num_bytes += len(found_by) + KEY_BYTES

    def _leave(self, data: bytes, key: bytes) -> None:
        """Take a record that went out of all places where it is looked up."""
        try:
            reference = Reference.from_bytes(key, data)
        except CorruptDataError:
            self._lookups.purge(key)
            with self._txn.cursor(self._db[SOURCES]) as cursor:
                source = next((found for found, value in cursor if value == key), b"")
        else:
            self._lookups.leave(reference)
            source = source_key(reference.source) if reference.source else b""
        if source and self._txn.delete(source, key, db=self._db[SOURCES]):
            self._num_bytes -= len(source) + KEY_BYTES
            with self._txn.cursor(self._db[SOURCES]) as cursor:
                self._num_sources -= not cursor.set_key(source)


def _stored_vector(key: bytes, vector: Vectors) -> bytes:
    if not np.isfinite(vector).all():
        raise InvalidArgumentError("the vector is not finite", field="vector")
    return vector_to_bytes(key, vector)
