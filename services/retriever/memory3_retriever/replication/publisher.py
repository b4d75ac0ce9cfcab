"""The writer's side: copies of banks to shared storage, each a generation of its own.

A generation is there once its manifest is, and served once the pointer says so: a writer that is
killed in between leaves files that nobody reads, and that the next publication removes.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from memory3.errors import CorruptDataError, Memory3Error
from memory3.rpc.logging import get_logger
from memory3_retriever.bank.catalog import Catalog
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.failpoints import failpoint
from memory3_retriever.files import sha256_of, temporary_folder
from memory3_retriever.replication import generation as generations
from memory3_retriever.replication.aliases import AliasPublisher
from memory3_retriever.replication.generation import Generation, Pointer, StoredFile
from memory3_retriever.replication.shared import SharedStorage

# Readers that are slow to change over find the files they were told of for so many generations.
KEPT = 3

_log = get_logger(__name__)


class Publisher:
    """Publishes banks, when asked and when they have changed.

    Args:
        catalog: The banks.
        storage: Where to.
        work: A folder on the data disk for copies.
        every_s: Seconds between looks at what has changed; 0 publishes only when asked.

    Attributes:
        aliases: Publishes aliases, as soon as their banks are.
    """

    def __init__(
        self, catalog: Catalog, storage: SharedStorage, work: Path, every_s: float
    ) -> None:
        self._catalog, self._storage, self._work = catalog, storage, work
        self._every_s = every_s
        self.aliases = AliasPublisher(catalog, storage)
        self._lock = threading.Lock()
        self._published: dict[str, tuple[str, int]] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look for changes from now on."""
        self.aliases.start()
        if self._every_s > 0:
            self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Begin no publication any more, and end the one at hand."""
        self._ended.set()
        self.aliases.close()
        if self._thread is not None:
            self._thread.join()

    def publish(self, bank: LiveBank) -> Generation:
        """Write the next generation of a bank, and have readers serve it.

        Raises:
            StorageFullError: There is no room for the copy.
            BackendUnavailableError: The storage does not answer.
        """
        name = bank.info.name
        with self._lock, temporary_folder(self._work) as copy:
            known = generations.numbers(self._storage, name)
            last = self._pointed(name)
            number = 1 + max([*known, last.number if last else 0])
            revision = bank.copy_files(copy)
            failpoint("publish.copied")
            files = {}
            for path in sorted(path for path in copy.rglob("*") if path.is_file()):
                own = path.relative_to(copy).as_posix()
                files[own] = StoredFile(*sha256_of(path))
                self._storage.put_file(f"{generations.folder_of(name, number)}/{own}", path)
            published = Generation(
                name, number, bank.info.uid, revision, bank.info.checkpoint_digest,
                time.time_ns(), files,
            )  # fmt: skip
            failpoint("publish.stored")
            generations.write_manifest(self._storage, published)
            failpoint("publish.complete")
            generations.point(self._storage, name, number)
            failpoint("publish.pointed")
            self._published[name] = (bank.info.uid, revision)
            self._remove_old(name, [*known, number])
        self.aliases.wake()
        _log.info("published", bank=name, generation=number, revision=revision)
        return published

    def _remove_old(self, name: str, known: list[int]) -> None:
        """Keep the last complete ones; half-written ones are older than this one, and useless."""
        complete = [
            number for number in known
            if self._manifest(name, number) is not None
        ]  # fmt: skip
        for number in sorted(set(known) - set(complete[-KEPT:])):
            self._storage.delete(generations.folder_of(name, number))

    def publish_alone(self, bank: LiveBank) -> Generation:
        """Publish a bank and remove every generation before: what was erased must be in none.

        Readers remove their own copies when they change over.

        Raises:
            StorageFullError: There is no room for the copy.
            BackendUnavailableError: The storage does not answer.
        """
        published = self.publish(bank)
        with self._lock:
            for number in generations.numbers(self._storage, published.bank):
                if number < published.number:
                    self._storage.delete(generations.folder_of(published.bank, number))
        return published

    def withdraw_deleted(self) -> None:
        """Tell readers of banks that were published and are deleted by now, and free their room.

        Raises:
            BackendUnavailableError: The storage does not answer.
        """
        with self._lock:
            for name in set(generations.bank_names(self._storage)) - set(self._catalog.names()):
                told = self._pointed(name)
                if told is not None and not told.deleted:
                    generations.point(self._storage, name, told.number, deleted=True)
                    self._published.pop(name, None)
                    self._storage.delete(f"banks/{name}/generations")
                    _log.info("withdrawn", bank=name)

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self.withdraw_deleted()
            except Memory3Error as error:
                _log.warning("the shared storage cannot be read", reason=error.reason)
            for name in self._catalog.names():
                if self._ended.is_set():
                    return
                try:
                    bank = self._catalog.get(name)
                    now = (bank.info.uid, bank.store.counters().revision)
                    if self._published.get(name) != now and not self._is_current(bank):
                        self.publish(bank)
                except Memory3Error as error:
                    _log.warning("not published", bank=name, reason=error.reason)
                except Exception:
                    _log.exception("not published", bank=name)

    def _pointed(self, name: str) -> Pointer | None:
        """What readers are told; a damaged pointer tells nothing, and the next one replaces it."""
        try:
            return generations.pointed(self._storage, name)
        except CorruptDataError:
            return None

    def _manifest(self, name: str, number: int) -> Generation | None:
        """A complete generation; a damaged one is as good as none."""
        try:
            return generations.read_manifest(self._storage, name, number)
        except CorruptDataError:
            return None

    def _is_current(self, bank: LiveBank) -> bool:
        """Whether the last generation, perhaps of an earlier start, is what the bank is now."""
        name = bank.info.name
        told = self._pointed(name)
        if told is None or told.deleted:
            return False
        last = self._manifest(name, told.number)
        now = (bank.info.uid, bank.store.counters().revision)
        if last is None or (last.uid, last.revision) != now:
            return False
        self._published[name] = now
        return True
