"""Erasing references: no byte of them stays in the bank's files, its index, the cache, snapshots.

Deleting comes first, so that from then on nobody is given them; then every place that held them is
written anew. Broken off, the call is made again: the bank notes what is to be erased until all of
it is, and all places are gone through whether or not the references are still there.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from memory3.errors import BackendUnavailableError, CorruptDataError, NotFoundError
from memory3_retriever.bank.catalog import Catalog
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.names import resource_name
from memory3_retriever.bank.snapshot import rewrite_snapshot
from memory3_retriever.bank.store import BankStore
from memory3_retriever.failpoints import failpoint
from memory3_retriever.limits import Limit
from memory3_retriever.replication.publisher import Publisher
from memory3_retriever.retrieval.memories import BATCH, MemoryReader

_CACHE_TRIES = 20
_CACHE_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class ErasedPlace:
    """A place that held what was erased; see the proto."""

    kind: str
    name: str
    action: str


@dataclass(slots=True)
class Receipt:
    """What was erased from where; see the proto."""

    bank: str
    reference_ids: list[str]
    num_missing: int
    revision: int
    erase_time_ns: int = 0
    places: list[ErasedPlace] = field(default_factory=list)
    kept_snapshots: list[str] = field(default_factory=list)

    def sha256(self) -> str:
        """The hash of the canonical JSON of all of it: keys in order, no white space, UTF-8."""
        body: dict[str, Any] = {
            "bank": resource_name(self.bank),
            "reference_ids": self.reference_ids,
            "num_missing": self.num_missing,
            "revision": self.revision,
            "erase_time_ns": self.erase_time_ns,
            "places": [
                {"kind": each.kind, "name": each.name, "action": each.action}
                for each in self.places
            ],
            "kept_snapshots": self.kept_snapshots,
        }
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


class Eraser:
    """Erases references of one bank.

    Args:
        catalog: Has the snapshots.
        memories: Has the cache.
        bank: The bank.
        limit: Whether anybody still waits.
        publisher: Has published the bank; None where nothing is published.
    """

    def __init__(
        self,
        catalog: Catalog,
        memories: MemoryReader,
        bank: LiveBank,
        limit: Limit,
        publisher: Publisher | None = None,
    ) -> None:
        self._publisher = publisher
        self._catalog = catalog
        self._memories = memories
        self._bank = bank
        self._limit = limit

    def run(
        self, keys: Sequence[bytes], source: str, *, keep_snapshots: bool
    ) -> Iterator[str | Receipt]:
        """What is being done, for people, and at last the receipt.

        Raises:
            BackendUnavailableError: The cache does not answer; all else was erased.
            StorageFullError: There is no room to write a place anew; the references are deleted.
        """
        bank = self._bank
        yield "deleting the references"
        change, _ = bank.delete(keys, source, erasing=True)
        # What calls before took out and did not erase everywhere is erased with it.
        gone = bank.store.being_erased()
        gone -= bank.store.existing(gone)  # added again since then
        erased = sorted({*gone, *keys})
        receipt = Receipt(bank.info.name, [], 0, change.revision)
        failpoint("erase.deleted")
        self._limit.check()
        yield "writing the bank's files anew"
        bank.rewrite()
        receipt.places.append(ErasedPlace("bank", bank.resource, "rewritten"))
        self._limit.check()
        yield "deriving the index anew"
        bank.rebuild_index()
        receipt.places.append(ErasedPlace("index", bank.resource, "rewritten"))
        yield "emptying the cache"
        self._empty_cache(erased)
        receipt.places.append(ErasedPlace("cache", self._memories.cache.describe(), "emptied"))
        failpoint("erase.emptied")
        gone |= yield from self._erase_snapshots(receipt, erased, source, keep=keep_snapshots)
        if self._publisher is not None:
            self._limit.check()
            yield "publishing the bank anew and removing the generations before"
            published = self._publisher.publish_alone(bank)
            receipt.places.append(ErasedPlace("generation", str(published.number), "rewritten"))
        bank.store.forget_erased()
        receipt.reference_ids = [key.hex() for key in sorted(gone)]
        receipt.num_missing = len({*keys} - gone)
        receipt.erase_time_ns = time.time_ns()
        yield receipt

    def _empty_cache(self, keys: Sequence[bytes]) -> None:
        for _ in range(_CACHE_TRIES):
            fault = self._memories.cache.fault()
            if fault is None:
                self._memories.forget(self._bank, keys)
                time.sleep(_CACHE_PAUSE_S)
                if self._is_empty_of(keys):
                    return
            time.sleep(_CACHE_PAUSE_S)
        raise BackendUnavailableError(
            "the cache does not answer, so memories may be left in it; the bank's files hold "
            "nothing any more",
            field="cache",
            remedy="see to the cache, then erase the same again by ids; there is no receipt yet",
        )

    def _is_empty_of(self, keys: Sequence[bytes]) -> bool:
        blocks = (keys[start : start + BATCH] for start in range(0, len(keys), BATCH))
        # A cache that fails just then has nothing to tell either.
        return all(
            not self._memories.cached(self._bank, block) and self._memories.cache.fault() is None
            for block in blocks
        )

    def _erase_snapshots(
        self, receipt: Receipt, keys: Sequence[bytes], source: str, *, keep: bool
    ) -> Generator[str, None, set[bytes]]:
        """Erase from the bank's snapshots; what only they had is returned."""
        gone: set[bytes] = set()

        def delete(store: BankStore) -> None:
            change, _ = store.delete(keys, source)
            gone.update(change.removed)
            store.forget_erased()

        snapshots = self._catalog.snapshots
        # One that was begun before the references went has them; one that is begun now has not.
        with self._bank.copying:
            snapshot_ids = snapshots.ids()
        for snapshot_id in snapshot_ids:
            self._limit.check()
            try:
                manifest = snapshots.manifest(snapshot_id)
                if manifest.bank != self._bank.info.name:
                    continue
                if keep:
                    receipt.kept_snapshots.append(snapshot_id)
                    continue
                yield f"erasing from snapshot {snapshot_id}"
                rewrite_snapshot(snapshots, manifest, delete, self._catalog.staging)
            except NotFoundError:
                continue  # deleted by somebody else meanwhile
            except CorruptDataError:
                # What is in it cannot be known, and it cannot be written.
                receipt.kept_snapshots.append(snapshot_id)
            else:
                receipt.places.append(ErasedPlace("snapshot", snapshot_id, "rewritten"))
        return gone
