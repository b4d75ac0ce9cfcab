"""What is read from a bank: references, vectors, memories, pages, counts.

Every method sees one consistent state. What has expired is not there for anybody who reads, though
it may still be on disk. It must not know how anything is written.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any

from memory3.errors import CorruptDataError
from memory3_retriever.bank.environment import Environment, Transaction
from memory3_retriever.bank.filters import Filter
from memory3_retriever.bank.key_lists import Keys, keys_of
from memory3_retriever.bank.ledger import COUNTERS_KEY, MEMORIES, META, REFERENCES, VECTORS
from memory3_retriever.bank.lookups import EXPIRY, METADATA, expired
from memory3_retriever.bank.matching import Matcher, Matches
from memory3_retriever.bank.records import (
    BankInfo,
    Counters,
    Reference,
    Vectors,
    corrupt,
    is_live,
    vectors_from_bytes,
)
from memory3_retriever.bank.sources import SOURCES, SourceNames

DATABASES: tuple[tuple[bytes, dict[str, Any]], ...] = (
    (META, {}),
    (REFERENCES, {}),
    (VECTORS, {}),
    (MEMORIES, {}),
    (SOURCES, {"dupsort": True, "dupfixed": True}),
    (METADATA, {"dupsort": True, "dupfixed": True}),
    (EXPIRY, {"dupsort": True, "dupfixed": True}),
)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is in a bank."""

    revision: int
    num_references: int
    num_memories: int
    num_sources: int
    memory_bytes: int
    used_bytes: int
    num_expiring: int


class StoreReader:
    """Reads a bank.

    Args:
        environment: The open files.

    Attributes:
        environment: The same.
        info: The bank's description; whoever opens the bank sets it.
    """

    info: BankInfo

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self._db = environment.databases

    def counters(self) -> Counters:
        """Revision and sums, as of the last committed change."""
        with self.environment.read() as txn:
            return self._counters(txn)

    def statistics(self) -> Statistics:
        """Counts of everything, as of the last committed change."""
        with self.environment.read() as txn:
            return self._statistics(txn)

    def num_lookups(self) -> int:
        """How many entries there are by which references are looked up, sources left out."""
        with self.environment.read() as txn:
            return sum(int(txn.stat(self._db[name])["entries"]) for name in (METADATA, EXPIRY))

    def any_expired(self) -> bool:
        """Whether anything that is still on disk has expired by now."""
        with self.environment.read() as txn:
            return bool(expired(txn, self._db[EXPIRY], time.time_ns(), 1))

    def matching(self, where: Filter) -> tuple[int, Matches]:
        """The references that a filter lets through, expired ones among them.

        Returns:
            The revision at which they do, and the references.
        """
        with self.environment.read() as txn:
            matcher = Matcher(txn, self._db, REFERENCES)
            return self._counters(txn).revision, matcher.matching(where)

    def get(self, keys: Iterable[bytes]) -> dict[bytes, Reference]:
        """The references of these keys that exist.

        Raises:
            CorruptDataError: One of them is damaged.
        """
        with self.environment.read() as txn:
            found = {key: txn.get(key, db=self._db[REFERENCES]) for key in keys}
        references = [
            Reference.from_bytes(key, data) for key, data in found.items() if data is not None
        ]
        now = time.time_ns()
        return {reference.key: reference for reference in references if reference.is_live(now)}

    def existing(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of the keys that have a reference."""
        with self.environment.read() as txn:
            return self._live(txn, keys)

    def with_memory(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of the keys that have a memory."""
        with self.environment.read() as txn, txn.cursor(self._db[MEMORIES]) as cursor:
            return {key for key in keys if cursor.set_key(key)}

    def memories(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The envelopes of these keys that are written, unverified."""
        with self.environment.read() as txn:
            found = {key: txn.get(key, db=self._db[MEMORIES]) for key in keys}
        return {key: data for key, data in found.items() if data is not None}

    def page(self, after: bytes, limit: int, source: str = "") -> list[Reference]:
        """The references after a key, in the order of keys: all, or those within one source."""
        now = time.time_ns()
        page: list[Reference] = []
        with self.environment.read() as txn:
            within = sorted(self._names(txn).keys_within(source)) if source else None
            while len(page) < limit:
                rows = self._rows_after(txn, within, after, limit - len(page))
                if not rows:
                    break
                after = rows[-1][0]
                references = (Reference.from_bytes(key, data) for key, data in rows)
                page.extend(reference for reference in references if reference.is_live(now))
        return page

    def sources(self, within: str, after: str, limit: int) -> list[str]:
        """The sources after one of them, in the order of their keys: all, or those within one."""
        with self.environment.read() as txn:
            return [name for _, name in islice(self._names(txn).within(within, after), limit)]

    def vector_keys(self) -> set[bytes]:
        """The keys of all vectors."""
        with self.environment.read() as txn, txn.cursor(self._db[VECTORS]) as cursor:
            return set(cursor.iternext(keys=True, values=False))

    def vector_key_list(self) -> Keys | None:
        """The keys of all vectors in order, as one array; None if one is no key of a vector."""
        with self.environment.read() as txn, txn.cursor(self._db[VECTORS]) as cursor:
            return keys_of(cursor)

    def present_vectors(self, keys: Sequence[bytes]) -> tuple[list[bytes], Vectors]:
        """Those of the keys that have a vector, and the vectors, [len(keys), dimensions].

        Raises:
            CorruptDataError: One of them is damaged.
        """
        with self.environment.read() as txn, txn.cursor(self._db[VECTORS]) as cursor:
            rows = cursor.getmulti(keys)
        return [key for key, _ in rows], vectors_from_bytes(rows, self.info.embedder.dimensions)

    def vectors_found(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        """The vectors of those of the keys that exist.

        Raises:
            CorruptDataError: One of them is damaged.
        """
        return dict(zip(*self.present_vectors(keys), strict=True))

    def vectors(self, keys: Sequence[bytes]) -> Vectors:
        """The vectors of keys that exist, [len(keys), dimensions].

        Raises:
            CorruptDataError: One of them is damaged or missing.
        """
        present, vectors = self.present_vectors(keys)
        if len(present) < len(keys):
            missing = next(key for key, found in zip_longest(keys, present) if key != found)
            raise corrupt("vector", missing.hex(), "it is missing")
        return vectors

    def _statistics(self, txn: Transaction) -> Statistics:
        counters = self._counters(txn)
        return Statistics(
            revision=counters.revision,
            num_references=txn.stat(self._db[REFERENCES])["entries"],
            num_memories=txn.stat(self._db[MEMORIES])["entries"],
            num_sources=counters.num_sources,
            memory_bytes=counters.memory_bytes,
            used_bytes=counters.used_bytes,
            num_expiring=txn.stat(self._db[EXPIRY])["entries"],
        )

    def _counters(self, txn: Transaction) -> Counters:
        return Counters.from_bytes(COUNTERS_KEY, txn.get(COUNTERS_KEY, b"", db=self._db[META]))

    def _names(self, txn: Transaction) -> SourceNames:
        return SourceNames(txn, self._db[SOURCES], self._db[REFERENCES])

    def _live(self, txn: Transaction, keys: Iterable[bytes]) -> set[bytes]:
        now = time.time_ns()
        found = ((key, txn.get(key, db=self._db[REFERENCES])) for key in keys)
        return {key for key, data in found if data is not None and _is_live(key, data, now)}

    def _rows_after(
        self, txn: Transaction, within: list[bytes] | None, after: bytes, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """Keys and records after a key: all, or those of some keys in order."""
        if within is not None:
            start = bisect.bisect_right(within, after)
            rows = [
                (key, txn.get(key, db=self._db[REFERENCES]))
                for key in within[start : start + limit]
            ]
            return [(key, data) for key, data in rows if data is not None]
        with txn.cursor(self._db[REFERENCES]) as cursor:
            if not cursor.set_range(after + b"\x00" if after else b""):
                return []
            return list(islice(cursor.iternext(), limit))


def _is_live(key: bytes, data: bytes, now: int) -> bool:
    try:
        return is_live(key, data, now)
    except CorruptDataError:
        return True  # told of where it is read
