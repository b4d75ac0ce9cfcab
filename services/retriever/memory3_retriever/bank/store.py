"""The truth of one bank: references, vectors and memories that change together.

Seven LMDB databases in one environment: ``meta`` (description and counters), ``references``,
``vectors`` and ``memories`` (by the key); ``sources``, ``metadata`` and ``expiry`` (what
a reference says to the keys of references). A change is one transaction, so nothing is ever
half-visible; and what has expired is not there for anybody who reads. It must not know indexes or
caches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from memory3.errors import CorruptDataError, QuotaExceededError
from memory3_retriever.bank.environment import Environment, Transaction
from memory3_retriever.bank.ledger import (
    COUNTERS_KEY,
    ERASING_KEY,
    INFO_KEY,
    META,
    Change,
    Ledger,
    NewReference,
)
from memory3_retriever.bank.lookups import EXPIRY, KEY_BYTES, LOOKUPS_KEY, expired
from memory3_retriever.bank.names import resource_name
from memory3_retriever.bank.reading import DATABASES, Statistics, StoreReader
from memory3_retriever.bank.records import (
    BankInfo,
    Counters,
    Reference,
    seal,
    unseal,
    vector_to_bytes,
)
from memory3_retriever.bank.sources import ORDERED_KEY
from memory3_retriever.bank.whole import require_whole

__all__ = ["AlreadyThereError", "BankStore", "Statistics", "quota_exceeded"]


Then = Callable[[Change], None]


class AlreadyThereError(Exception):
    """References that must not be there are; nothing was changed.

    Attributes:
        keys: Which ones.
    """

    def __init__(self, keys: Collection[bytes]) -> None:
        super().__init__(f"{len(keys)} references are there")
        self.keys = frozenset(keys)


class BankStore(StoreReader):
    """An open bank on disk.

    Args:
        path: Its folder.
        name: Its id.
        map_bytes: The size of the map to begin with.
        max_map_bytes: The size that it never passes.
        info: The description of a bank to be made; None opens one that is there.
        trusted: This process has just written the files, so they are not checked.

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
        trusted: bool = False,
    ) -> None:
        super().__init__(
            Environment(
                path,
                resource_name(name),
                DATABASES,
                map_bytes=map_bytes,
                max_map_bytes=max_map_bytes,
                trusted=trusted,
            )
        )
        try:
            if info is not None:
                self._make(info)
            self.info = self._read_info()
            self._bring_up_to_date()
            if not trusted:
                with self.environment.read() as txn:
                    require_whole(txn, self._db, self.environment.resource)
        except BaseException:
            self.environment.close()
            raise

    def put(
        self,
        new: Sequence[NewReference],
        keep_by_source: Mapping[str, set[bytes]] | None = None,
        update: Iterable[Reference] = (),
        *,
        overwrite: bool = False,
        refuse: Collection[bytes] = (),
        then: Then | None = None,
    ) -> Change:
        """Add what is new, and remove what a source no longer contains, in one transaction.

        Args:
            new: The references; those that are there already stay as they are, but take the
                memory if they have none.
            keep_by_source: For each source to be replaced, the keys that it still contains.
            update: References that take these metadata, and this expiry, where they are there with
                others.
            overwrite: References of ``new`` that are there already are replaced.
            refuse: Keys that must not be there.
            then: Told of the change once it is durable, before the next one is.

        Raises:
            StorageFullError: There is no room; nothing was changed.
            QuotaExceededError: The bank may not take so much; nothing was changed.
            AlreadyThereError: A reference of ``refuse`` is there; nothing was changed.
        """

        def change(txn: Transaction) -> Change:
            ledger = self._ledger(txn)
            there = self._live(txn, refuse)
            if there:
                raise AlreadyThereError(there)
            # Removing first keeps the file from growing by pages that are given back at once.
            num_removed = {}
            for source, kept in (keep_by_source or {}).items():
                doomed = self._names(txn).keys_of(source) - kept
                num_removed[source] = len(doomed)
                for key in sorted(doomed):
                    ledger.remove(key)
            for item in new:
                ledger.overwrite(item) if overwrite else ledger.add(item)
            for reference in update:
                ledger.update(reference)
            self._keep_quota(ledger)
            return replace(ledger.close(), num_removed_by_source=num_removed)

        return self.environment.write(change, then, num_bytes=sum(each.num_bytes for each in new))

    def put_memories(self, envelopes: Mapping[bytes, bytes], then: Then | None = None) -> int:
        """Keep memories that were written later; references gone by now are passed over.

        Returns:
            The bank's revision after it.

        Raises:
            StorageFullError: There is no room; nothing was changed.
            QuotaExceededError: The bank may not take so much; nothing was changed.
        """

        def change(txn: Transaction) -> Change:
            ledger = self._ledger(txn)
            for key, envelope in envelopes.items():
                ledger.add_memory(key, envelope)
            self._keep_quota(ledger)
            return ledger.close()

        num_bytes = sum(map(len, envelopes.values()))
        return self.environment.write(change, then, num_bytes=num_bytes).revision

    def delete(
        self,
        keys: Iterable[bytes],
        source: str = "",
        exact_sources: Iterable[str] = (),
        then: Then | None = None,
        *,
        erasing: bool = False,
    ) -> tuple[Change, int]:
        """Remove references with their vectors and memories, by key and by source.

        Args:
            keys: The keys.
            source: A source, removed with all that is inside it; empty for none.
            exact_sources: Sources of which only what they are exactly is removed.
            erasing: Note what is removed, for `being_erased`, until `forget_erased`.
            then: Told of the change once it is durable, before the next one is.

        Returns:
            What was done, and how many of the keys did not exist.
        """
        named, exact = set(keys), list(exact_sources)

        def change(txn: Transaction) -> Change:
            ledger = self._ledger(txn)
            names = self._names(txn)
            doomed = named | (names.keys_within(source) if source else set())
            doomed.update(*(names.keys_of(each) for each in exact))
            for key in sorted(doomed):
                ledger.remove(key)
            if erasing:
                noted = self._being_erased(txn) | set(ledger.removed)
                note = seal(ERASING_KEY, b"".join(sorted(noted)))
                txn.put(ERASING_KEY, note, db=self._db[META])
            return ledger.close()

        done = self.environment.write(change, then)
        return done, len(named) - len(named & set(done.removed))

    def being_erased(self) -> set[bytes]:
        """The keys of what was removed to be erased, by calls that were broken off as well.

        Raises:
            CorruptDataError: The note of them is damaged.
        """
        with self.environment.read() as txn:
            return self._being_erased(txn)

    def forget_erased(self) -> None:
        """Forget the note of what is to be erased: it is erased everywhere."""
        if self.being_erased():
            self.environment.write(lambda txn: txn.delete(ERASING_KEY, db=self._db[META]))

    def remove_expired(self, limit: int, then: Then | None = None) -> Change | None:
        """Remove some of what has expired by now, the first to expire first.

        Returns:
            What was done; None where nothing had expired.
        """
        if not self.any_expired():
            return None

        def change(txn: Transaction) -> Change:
            ledger = self._ledger(txn)
            for key in expired(txn, self._db[EXPIRY], ledger.now, limit):
                ledger.remove(key)
            return ledger.close()

        return self.environment.write(change, then)

    def describe(self, change: Callable[[BankInfo], BankInfo]) -> BankInfo:
        """Replace the description by another one made of it."""

        def write(txn: Transaction) -> BankInfo:
            info = change(self.info)
            self._put_info(txn, info)
            return info

        def keep(info: BankInfo) -> None:
            self.info = info

        return self.environment.write(write, keep)

    def rename(self, info: BankInfo) -> None:
        """Replace the description; for a bank restored under another name."""
        self.forget_erased()
        self.describe(lambda _: info)

    def close(self) -> None:
        """Close the files, after the last transaction."""
        self.environment.close()

    def _put_info(self, txn: Transaction, info: BankInfo) -> None:
        txn.put(INFO_KEY, info.to_bytes(INFO_KEY), db=self._db[META])

    def _being_erased(self, txn: Transaction) -> set[bytes]:
        data = txn.get(ERASING_KEY, db=self._db[META])
        if data is None:
            return set()
        body = unseal(ERASING_KEY, data, "note", "of what is erased")
        return {body[at : at + KEY_BYTES] for at in range(0, len(body), KEY_BYTES)}

    def _make(self, info: BankInfo) -> None:
        def change(txn: Transaction) -> None:
            self._put_info(txn, info)
            txn.put(COUNTERS_KEY, Counters().to_bytes(COUNTERS_KEY), db=self._db[META])
            txn.put(ORDERED_KEY, b"1", db=self._db[META])
            txn.put(LOOKUPS_KEY, b"1", db=self._db[META])

        self.environment.write(change)

    def _bring_up_to_date(self) -> None:
        """Fill what a bank from before does not have yet, which takes a while for a large one."""
        with self.environment.read() as txn:
            self._counters(txn)
            keys = (ORDERED_KEY, LOOKUPS_KEY)
            if all(txn.get(key, db=self._db[META]) is not None for key in keys):
                return

        def change(txn: Transaction) -> None:
            ledger = self._ledger(txn)
            ledger.put_sources_in_order()
            ledger.fill_lookups(self._vector_bytes())
            ledger.close()

        self.environment.write(change)

    def _vector_bytes(self) -> int:
        zero = np.zeros(self.info.embedder.dimensions, dtype=np.float32)
        return len(vector_to_bytes(bytes(16), zero))

    def _read_info(self) -> BankInfo:
        with self.environment.read() as txn:
            data = txn.get(INFO_KEY, db=self._db[META])
        if data is None:
            raise CorruptDataError(
                f"the files of {self.environment.resource} hold no bank",
                field="bank",
                remedy="restore the bank from a snapshot, or delete it",
            )
        return BankInfo.from_bytes(INFO_KEY, data)

    def _ledger(self, txn: Transaction) -> Ledger:
        return Ledger(txn, self._db, self._counters(txn), time.time_ns())

    def _keep_quota(self, ledger: Ledger) -> None:
        quota, used = self.info.quota_bytes, ledger.used_bytes
        # Above the quota already, a bank may still shrink.
        if quota and used > max(quota, ledger.used_bytes_before):
            raise quota_exceeded(self.environment.resource, ledger.used_bytes_before, used, quota)


def quota_exceeded(resource: str, used: int, needed: int, quota: int) -> QuotaExceededError:
    """The error for a bank that may not take so much."""
    return QuotaExceededError(
        f"{resource} may take {quota} bytes, has {used}, and would have {needed}",
        field="bank",
        remedy="delete references, or raise its quota (memory3 bank update --quota)",
        metadata={
            "resource": resource, "used": str(used), "needed": str(needed), "quota": str(quota),
        },
    )  # fmt: skip
