"""The truth of one bank: references, vectors and memories that change together.

Five LMDB databases in one environment: ``meta`` (description and counters), ``references``,
``vectors`` and ``memories`` (by the reference's key), ``sources`` (a source to the keys of its
references). A change is one transaction, so nothing is ever half-visible. It must not know indexes
or caches.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from memory3.errors import CorruptDataError
from memory3_retriever.bank.environment import Environment, Transaction
from memory3_retriever.bank.ledger import (
    COUNTERS_KEY,
    MEMORIES,
    META,
    REFERENCES,
    VECTORS,
    Change,
    Ledger,
    NewReference,
)
from memory3_retriever.bank.names import resource_name
from memory3_retriever.bank.records import (
    BankInfo,
    Counters,
    Reference,
    Vectors,
    vector_from_bytes,
)
from memory3_retriever.bank.sources import ORDERED_KEY, SOURCES, SourceNames
from memory3_retriever.bank.whole import require_whole

_DATABASES: tuple[tuple[bytes, dict[str, Any]], ...] = (
    (META, {}),
    (REFERENCES, {}),
    (VECTORS, {}),
    (MEMORIES, {}),
    (SOURCES, {"dupsort": True, "dupfixed": True}),
)
_INFO_KEY = b"info"


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is in a bank."""

    revision: int
    num_references: int
    num_memories: int
    num_sources: int
    memory_bytes: int


class BankStore:
    """An open bank on disk.

    Args:
        path: Its folder.
        name: Its id.
        map_bytes: The size of the map to begin with.
        max_map_bytes: The size that it never passes.
        info: The description of a bank to be made; None opens one that is there.

    Raises:
        CorruptDataError: The files are damaged, or hold no bank.
        StorageFullError: There is no room.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        *,
        map_bytes: int,
        max_map_bytes: int,
        info: BankInfo | None = None,
    ) -> None:
        self.environment = Environment(
            path, resource_name(name), _DATABASES, map_bytes=map_bytes, max_map_bytes=max_map_bytes
        )
        self._db = self.environment.databases
        try:
            if info is not None:
                self._describe(info)
            self.info = self._read_info()
            self._put_sources_in_order()
            with self.environment.read() as txn:
                require_whole(txn, self._db, self.environment.resource)
        except BaseException:
            self.environment.close()
            raise

    def counters(self) -> Counters:
        """Revision and sums, as of the last committed change."""
        with self.environment.read() as txn:
            return self._counters(txn)

    def statistics(self) -> Statistics:
        """Counts of everything, as of the last committed change."""
        with self.environment.read() as txn:
            return self._statistics(txn)

    def put(
        self,
        new: Sequence[NewReference],
        keep_by_source: Mapping[str, set[bytes]] | None = None,
        update: Iterable[Reference] = (),
    ) -> Change:
        """Add what is new, and remove what a source no longer contains, in one transaction.

        Args:
            new: The references; those that are there already stay as they are, but take the
                memory if they have none.
            keep_by_source: For each source to be replaced, the keys that it still contains.
            update: References that take these metadata where they are there with others.

        Raises:
            StorageFullError: There is no room; nothing was changed.
        """
        now = time.time_ns()

        def change(txn: Transaction) -> Change:
            ledger = Ledger(txn, self._db, self._counters(txn))
            # Removing first keeps the file from growing by pages that are given back at once.
            num_removed = {}
            for source, kept in (keep_by_source or {}).items():
                doomed = self._names(txn).keys_of(source) - kept
                num_removed[source] = len(doomed)
                for key in sorted(doomed):
                    ledger.remove(key)
            for item in new:
                ledger.add(item, now)
            for reference in update:
                ledger.update(reference, now)
            return replace(ledger.close(), num_removed_by_source=num_removed)

        return self.environment.write(change)

    def put_memories(self, envelopes: Mapping[bytes, bytes]) -> int:
        """Keep memories that were written later; references gone by now are passed over.

        Returns:
            The bank's revision after it.
        """

        def change(txn: Transaction) -> Change:
            ledger = Ledger(txn, self._db, self._counters(txn))
            for key, envelope in envelopes.items():
                ledger.add_memory(key, envelope)
            return ledger.close()

        return self.environment.write(change).revision

    def delete(
        self, keys: Iterable[bytes], source: str = "", exact_sources: Iterable[str] = ()
    ) -> tuple[Change, int]:
        """Remove references with their vectors and memories, by key and by source.

        Args:
            keys: The keys.
            source: A source, removed with all that is inside it; empty for none.
            exact_sources: Sources of which only what they are exactly is removed.

        Returns:
            What was done, and how many of the keys did not exist.
        """
        named, exact = set(keys), list(exact_sources)

        def change(txn: Transaction) -> tuple[Change, int]:
            ledger = Ledger(txn, self._db, self._counters(txn))
            names = self._names(txn)
            doomed = named | (names.keys_within(source) if source else set())
            doomed.update(*(names.keys_of(each) for each in exact))
            for key in sorted(doomed):
                ledger.remove(key)
            return ledger.close(), len(named) - len(named & set(ledger.removed))

        return self.environment.write(change)

    def get(self, keys: Iterable[bytes]) -> dict[bytes, Reference]:
        """The references of these keys that exist.

        Raises:
            CorruptDataError: One of them is damaged.
        """
        with self.environment.read() as txn:
            found = {key: txn.get(key, db=self._db[REFERENCES]) for key in keys}
        return {
            key: Reference.from_bytes(key, data) for key, data in found.items() if data is not None
        }

    def existing(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of the keys that have a reference."""
        return self._present(REFERENCES, keys)

    def with_memory(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of the keys that have a memory."""
        return self._present(MEMORIES, keys)

    def memories(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The envelopes of these keys that are written, unverified."""
        with self.environment.read() as txn:
            found = {key: txn.get(key, db=self._db[MEMORIES]) for key in keys}
        return {key: data for key, data in found.items() if data is not None}

    def page(self, after: bytes, limit: int, source: str = "") -> list[Reference]:
        """The references after a key, in the order of keys: all, or those within one source."""
        with self.environment.read() as txn:
            if source:
                within = self._names(txn).keys_within(source)
                keys = heapq.nsmallest(limit, (key for key in within if key > after))
                rows = [(key, txn.get(key, db=self._db[REFERENCES])) for key in keys]
            else:
                rows = _rows_after(txn, self._db[REFERENCES], after, limit)
        return [Reference.from_bytes(key, data) for key, data in rows if data is not None]

    def sources(self, within: str, after: str, limit: int) -> list[str]:
        """The sources after one of them, in the order of their keys: all, or those within one."""
        with self.environment.read() as txn:
            return [name for _, name in islice(self._names(txn).within(within, after), limit)]

    def vector_keys(self) -> set[bytes]:
        """The keys of all vectors."""
        with self.environment.read() as txn, txn.cursor(self._db[VECTORS]) as cursor:
            return set(cursor.iternext(keys=True, values=False))

    def vectors(self, keys: Sequence[bytes]) -> Vectors:
        """The vectors of keys that exist, [len(keys), dimensions].

        Raises:
            CorruptDataError: One of them is damaged or missing.
        """
        dimensions = self.info.embedder.dimensions
        with self.environment.read() as txn:
            rows = [txn.get(key, db=self._db[VECTORS]) for key in keys]
        vectors = np.empty((len(keys), dimensions), dtype=np.float32)
        for row, (key, data) in enumerate(zip(keys, rows, strict=True)):
            vectors[row] = vector_from_bytes(key, data or b"", dimensions)
        return vectors

    def rename(self, info: BankInfo) -> None:
        """Replace the description; for a bank restored under another name."""
        self._describe(info)
        self.info = info

    def close(self) -> None:
        """Close the files, after the last transaction."""
        self.environment.close()

    def _describe(self, info: BankInfo) -> None:
        def change(txn: Transaction) -> None:
            txn.put(_INFO_KEY, info.to_bytes(_INFO_KEY), db=self._db[META])
            if txn.get(COUNTERS_KEY, db=self._db[META]) is None:
                txn.put(COUNTERS_KEY, Counters().to_bytes(COUNTERS_KEY), db=self._db[META])
                txn.put(ORDERED_KEY, b"1", db=self._db[META])

        self.environment.write(change)

    def _put_sources_in_order(self) -> None:
        with self.environment.read() as txn:
            self._counters(txn)
            if txn.get(ORDERED_KEY, db=self._db[META]) is not None:
                return

        def change(txn: Transaction) -> None:
            ledger = Ledger(txn, self._db, self._counters(txn))
            ledger.put_sources_in_order()
            ledger.close()

        self.environment.write(change)

    def _read_info(self) -> BankInfo:
        with self.environment.read() as txn:
            data = txn.get(_INFO_KEY, db=self._db[META])
        if data is None:
            raise CorruptDataError(
                f"the files of {self.environment.resource} hold no bank",
                field="bank",
                remedy="restore the bank from a snapshot, or delete it",
            )
        return BankInfo.from_bytes(_INFO_KEY, data)

    def _statistics(self, txn: Transaction) -> Statistics:
        counters = self._counters(txn)
        return Statistics(
            revision=counters.revision,
            num_references=txn.stat(self._db[REFERENCES])["entries"],
            num_memories=txn.stat(self._db[MEMORIES])["entries"],
            num_sources=counters.num_sources,
            memory_bytes=counters.memory_bytes,
        )

    def _counters(self, txn: Transaction) -> Counters:
        return Counters.from_bytes(COUNTERS_KEY, txn.get(COUNTERS_KEY, b"", db=self._db[META]))

    def _names(self, txn: Transaction) -> SourceNames:
        return SourceNames(txn, self._db[SOURCES], self._db[REFERENCES])

    def _present(self, database: bytes, keys: Iterable[bytes]) -> set[bytes]:
        with self.environment.read() as txn, txn.cursor(self._db[database]) as cursor:
            return {key for key in keys if cursor.set_key(key)}


def _rows_after(
    txn: Transaction, database: Any, after: bytes, limit: int
) -> list[tuple[bytes, bytes | None]]:
    with txn.cursor(database) as cursor:
        if not cursor.set_range(after + b"\x00" if after else b""):
            return []
        rows = []
        for key, value in cursor.iternext():
            rows.append((key, value))
            if len(rows) == limit:
                break
        return rows
