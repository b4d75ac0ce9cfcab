"""A bank in use: its store and the index derived from it, changed one after the other.

A change is committed first and indexed next, in the order of commits, before it is acknowledged:
whoever was told of a change finds it.
"""

from __future__ import annotations

import os
import shutil
import threading
import weakref
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from memory3 import plugins
from memory3.errors import CheckpointMismatchError, FailedPreconditionError
from memory3.rpc.logging import get_logger
from memory3_retriever.bank.filters import Filter
from memory3_retriever.bank.ledger import Change, NewReference
from memory3_retriever.bank.names import resource_name
from memory3_retriever.bank.recall import Recall, RecallWatch
from memory3_retriever.bank.records import BankInfo, EmbedderIdentity, Reference, Vectors
from memory3_retriever.bank.selective import SelectiveSearch
from memory3_retriever.bank.snapshot import copy_store
from memory3_retriever.bank.store import BankStore, quota_exceeded
from memory3_retriever.bank.verify import Problem, Report, verify_bank
from memory3_retriever.failpoints import failpoint
from memory3_retriever.files import TEMPORARY_PREFIX
from memory3_retriever.indexes.base import Hit, Index, IndexState

INDEX_FOLDER = "index"
_BLOCK = 4096

_log = get_logger(__name__)


def make_index(name: str, dimensions: int, folder: Path | None = None) -> Index:
    """An index by its plugin's name with its argument.

    Raises:
        PluginNotFoundError: There is no such plugin.
        InvalidArgumentError: The plugin does not take that argument.
    """
    _, argument = plugins.split_name(name)
    index: Index = plugins.load("indexes", name)(dimensions, argument=argument, folder=folder)
    return index


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What a bank's index consists of, and what it was last measured to find."""

    state: IndexState
    recall: Recall | None


class LiveBank:
    """An open bank that can be searched and changed.

    Args:
        store: The bank on disk; closed together with this.
        folder: The bank's folder, where the index keeps its files.
        follows: It is a copy of another retriever's: references are not changed here. It is closed
            when nobody uses it any more.

    Attributes:
        store: The same.
        copying: Held while a snapshot is taken.

    Raises:
        CorruptDataError: A vector is damaged.
        PluginNotFoundError: The bank's index plugin is not installed.
    """

    def __init__(self, store: BankStore, folder: Path, *, follows: bool = False) -> None:
        self.store = store
        self.copying = threading.Lock()
        self._index_folder, self._follows = folder / INDEX_FOLDER, follows
        self._index, self._watch = self._new_index()
        try:
            self._index.load()
            self._agree()
        except BaseException:
            # Nothing in the background may outlive the store.
            self._watch.close()
            self._index.close()
            raise
        self._selective = SelectiveSearch(store, self._index)
        store.environment.set_durability(store.info.durability)
        self._finalizer = (
            weakref.finalize(self, _let_go, self._watch, self._index, store) if follows else None
        )
        self._watch.wake()

    @property
    def info(self) -> BankInfo:
        """The bank's description."""
        return self.store.info

    @property
    def resource(self) -> str:
        """The bank's resource name."""
        return resource_name(self.info.name)

    def require_checkpoint(self, digest: str) -> None:
        """Refuse another checkpoint than the one that the memories belong to.

        Raises:
            CheckpointMismatchError: ``digest`` is not the bank's.
        """
        if digest != self.info.checkpoint_digest:
            raise CheckpointMismatchError(
                f"{self.resource} belongs to another checkpoint",
                field="checkpoint_digest",
                remedy="load the checkpoint that wrote the bank, or write the bank again",
                expected=self.info.checkpoint_digest,
                actual=digest,
            )

    def require_embedder(self, embedder: EmbedderIdentity) -> None:
        """Refuse another embedder than the one that made the vectors.

        Raises:
            CheckpointMismatchError: Digest or dimensions are not the bank's.
        """
        for field in ("digest", "dimensions"):
            expected, actual = getattr(self.info.embedder, field), getattr(embedder, field)
            if expected != actual:
                raise CheckpointMismatchError(
                    f"the vectors of {self.resource} were made by another embedder",
                    field=f"embedder.{field}",
                    remedy="run the encoder with the bank's embedder, or write the bank again",
                    expected=expected,
                    actual=actual,
                )

    def require_room(self) -> None:
        """Refuse to add to a bank that has all that it may have; before anything is encoded.

        Raises:
            QuotaExceededError: It has.
        """
        quota = self.info.quota_bytes
        if quota and (used := self.store.counters().used_bytes) >= quota:
            raise quota_exceeded(self.resource, used, used, quota)

    def put(
        self,
        new: Sequence[NewReference],
        keep_by_source: Mapping[str, set[bytes]] | None = None,
        update: Iterable[Reference] = (),
        *,
        overwrite: bool = False,
        refuse: Collection[bytes] = (),
    ) -> Change:
        """As ``BankStore.put``, and searchable.

        Raises:
            FailedPreconditionError: The bank is a copy of another retriever's.
        """
        self._require_own()
        vectors = {item.reference.key: item.vector for item in new}
        return self.store.put(
            new,
            keep_by_source,
            update,
            overwrite=overwrite,
            refuse=refuse,
            then=lambda change: self._follow(change, vectors),
        )

    def put_memories(self, envelopes: Mapping[bytes, bytes]) -> None:
        """As ``BankStore.put_memories``."""
        self.store.put_memories(envelopes, then=lambda change: self._follow(change, {}))

    def delete(
        self,
        keys: Iterable[bytes],
        source: str = "",
        exact_sources: Iterable[str] = (),
        *,
        erasing: bool = False,
    ) -> tuple[Change, int]:
        """As ``BankStore.delete``, and found no more.

        Raises:
            FailedPreconditionError: The bank is a copy of another retriever's.
        """
        self._require_own()
        return self.store.delete(
            keys,
            source,
            exact_sources,
            then=lambda change: self._follow(change, {}),
            erasing=erasing,
        )

    def remove_expired(self, limit: int) -> Change | None:
        """As ``BankStore.remove_expired``."""
        return self.store.remove_expired(limit, then=lambda change: self._follow(change, {}))

    def update(self, options: Mapping[str, Any]) -> BankInfo:
        """Change some of what the description says, by name, and keep to it from now on."""
        info = self.store.describe(lambda before: replace(before, **options))
        self.store.environment.set_durability(info.durability)
        return info

    def search(self, queries: Vectors, k: int, where: Filter = ()) -> tuple[int, list[list[Hit]]]:
        """The nearest references of each query, [num_queries, dimensions].

        Args:
            queries: What to look for.
            k: How many.
            where: Restricts what is found; empty restricts nothing.

        Returns:
            The revision that was searched (or an earlier one), and the hits.
        """
        revision = self._index.revision
        if where or self.store.any_expired():
            return revision, self._selective.search(queries, k, where)
        return revision, self._index.search(queries, k)

    def verify(self) -> Report:
        """Read everything in the bank, and compare the index with it."""
        report = verify_bank(self.store)
        with self.store.environment.paused():
            stored, indexed = self.store.vector_keys(), self._index.keys()
        for keys, what in ((stored - indexed, "does not have"), (indexed - stored, "still has")):
            for key in sorted(keys):
                message = f"the index {what} it; start the retriever again to derive the index anew"
                report.problems.append(Problem(key.hex(), "INDEX_DISAGREES", message))
        return report

    def copy_files(self, folder: Path) -> int:
        """Copy the bank as it is after some change, with what its index has on disk.

        Args:
            folder: An empty folder, laid out as the bank's own.

        Returns:
            The revision of the copy. Its index may be of another one: it is brought round to the
            records when it is opened.
        """
        revision = copy_store(self.store, folder)
        with self.store.environment.paused():
            self._index.save()
            # Index files are replaced and never changed, so a second name is a copy.
            if (self._index_folder).is_dir():
                shutil.copytree(
                    self._index_folder,
                    folder / INDEX_FOLDER,
                    copy_function=os.link,
                    # What a save that was killed left behind.
                    ignore=shutil.ignore_patterns(f"{TEMPORARY_PREFIX}*"),
                )
        return revision

    def index_report(self) -> IndexReport:
        """The index as it is now."""
        return IndexReport(self._index.state(), self._watch.result)

    def rewrite(self) -> None:
        """As ``Environment.rewrite``: the files hold what the bank holds, and nothing else."""
        self.store.environment.rewrite()

    def rebuild_index(self) -> None:
        """Derive the index anew; nothing of the one before stays on disk.

        Those who write wait until the vectors are read; searches go on in the index before.
        """
        self._require_own()
        self._index.settle()
        with self.store.environment.paused():
            self._watch.close()
            self._index.close()
            if self._index_folder.exists():
                shutil.rmtree(self._index_folder)
            failpoint("index.removed")
            index, watch = self._new_index()
            agree(index, self.store)
            self._index, self._watch = index, watch
            self._selective = SelectiveSearch(self.store, index)
        self._watch.wake()
        # What is large enough for a saved base is saved at once, so a start need not build it.
        self._index.settle()

    def tidy(self) -> None:
        """Have the index do in the background what is better done while nothing changes."""
        self._index.tidy()

    def settle(self) -> None:
        """Wait until the index does no work in the background and has been measured."""
        self._index.settle()
        self._watch.settle()

    def close(self) -> None:
        """Save what can be saved and close the files."""
        if self._finalizer is not None:
            self._finalizer.detach()
        with self.store.environment.paused():
            self._watch.close()
            self._index.close()
            try:
                self._index.save()
            except OSError:
                _log.exception("the index was not saved", bank=self.info.name)
        self.store.close()

    def _require_own(self) -> None:
        if self._follows:
            raise FailedPreconditionError(
                f"{self.resource} is a copy here: this retriever follows another one",
                field="bank",
                remedy="send changes to the retriever that publishes",
                metadata={"resource": self.resource},
            )

    def _follow(self, change: Change, vectors: Mapping[bytes, Vectors]) -> None:
        try:
            if change.rewritten:
                self._selective.forget()
            self._index.remove([*change.removed, *change.rewritten])
            fresh = [*change.added, *change.rewritten]
            if fresh:
                self._index.add(fresh, np.stack([vectors[key] for key in fresh]))
            self._index.revision = change.revision
        except Exception:
            # The change is durable already, so the index has to come round to it.
            _log.exception("the index is derived anew", bank=self.info.name)
            self._agree()

    def _new_index(self) -> tuple[Index, RecallWatch]:
        info, store = self.info, self.store
        index = make_index(info.index, info.embedder.dimensions, self._index_folder)
        # A graph over vectors of another bank or embedder would be whole, and wrong.
        index.owner = f"{info.uid}/{info.embedder.digest}"
        index.vectors_of = store.vectors_found
        watch = RecallWatch(info.name, store, index)
        index.when_rebuilt = watch.wake
        return index, watch

    def _agree(self) -> None:
        agree(self._index, self.store)


def _let_go(watch: RecallWatch, index: Index, store: BankStore) -> None:
    watch.close()
    index.close()
    store.close()


def agree(index: Index, store: BankStore) -> None:
    """Bring an index to what the store holds, whatever the index held before.

    Raises:
        CorruptDataError: A vector is damaged.
    """
    listed = store.vector_key_list()
    if listed is not None and index.holds(listed):
        index.revision = store.counters().revision
        return
    stored, indexed = store.vector_keys(), index.keys()
    index.remove(sorted(indexed - stored))
    missing = sorted(stored - indexed)
    for start in range(0, len(missing), _BLOCK):
        block = missing[start : start + _BLOCK]
        index.add(block, store.vectors(block))
    index.revision = store.counters().revision
