"""One LMDB environment: transactions that fail typed, and a map that grows without a restart.

It must not know what the databases hold. Commits are synced to the disk before they return, unless
it is told that a kill of the process is all that they have to survive.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from memory3.errors import CorruptDataError, Memory3Error
from memory3.rpc.logging import get_logger
from memory3_retriever.bank.commits import CommitQueue, Waiting
from memory3_retriever.bank.faults import storage_full, typed_faults
from memory3_retriever.bank.gate import Gate
from memory3_retriever.bank.pages import DamagedPagesError, check_pages
from memory3_retriever.bank.records import Durability
from memory3_retriever.bank.rewriting import copy_records
from memory3_retriever.bank.synced import SYNCED_FILE, Syncer, forget_synced, go_back
from memory3_retriever.failpoints import failpoint
from memory3_retriever.files import sync, temporary_folder

DATA_FILE = "data.mdb"

# One slot for every thread that reads; more threads than this serve no single process here.
_MAX_READERS = 1024
# Where the data file cannot grow by this, a failed write failed for want of room.
_PROBE_BYTES = 16 << 20

# LMDB's own type for values is a union with views, which are only given where they are asked for.
Transaction = Any

T = TypeVar("T")

_log = get_logger(__name__)


class Environment:
    """An open LMDB environment. One process opens a path once.

    Args:
        path: Its folder.
        resource: The bank's resource name, for errors.
        databases: The names of its databases, with LMDB's options for each.
        map_bytes: The size of the map to begin with; it doubles when it is full.
        max_map_bytes: The size that the map never passes.

    Attributes:
        databases: LMDB's handles, by name.
        queue: Those who want to write; counts commits.

    Raises:
        CorruptDataError: The files are damaged.
        StorageFullError: There is no room.
        BackendUnavailableError: The disk failed.
    """

    def __init__(
        self,
        path: Path,
        resource: str,
        databases: Sequence[tuple[bytes, dict[str, Any]]],
        *,
        map_bytes: int,
        max_map_bytes: int,
        trusted: bool = False,
    ) -> None:
        self.path = path
        self.resource = resource
        self.databases: dict[bytes, Any] = {}
        self.queue = CommitQueue(self._commit)
        self._max_map_bytes = max_map_bytes
        self._options = databases
        self._gate = Gate(resource)
        # Changes are synced one by one unless this is there.
        self._syncer: Syncer | None = None
        used = (path / DATA_FILE).stat().st_size if (path / DATA_FILE).exists() else 0
        with typed_faults(resource):
            if go_back(path, path / DATA_FILE, resource):
                _log.warning("a bank went back to its last synced state", bank=resource)
            if not trusted:
                self._check_pages()
            self._open(max(min(map_bytes, max_map_bytes), used * 2), sync=True)
            # Nothing holds what was kept by another process, so it must not be needed any more.
            if (path / SYNCED_FILE).exists():
                self._lmdb.sync(True)
                forget_synced(path)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A consistent view of everything; keep it short, for a growing map waits for it."""
        with self._gate.shared(), typed_faults(self.resource), self._lmdb.begin() as txn:
            yield txn

    def write(
        self,
        change: Callable[[Transaction], T],
        then: Callable[[T], None] | None = None,
        *,
        num_bytes: int = 0,
    ) -> T:
        """Run a change in a transaction, which others may share, and sync it.

        Args:
            change: Called with the transaction, perhaps on another thread; and again with a new
                one if the map had to grow, or another change of the transaction failed.
            then: Called with what it returned, once that is durable, in the order of commits and
                before the next one. It must not write.
            num_bytes: About what it writes.

        Returns:
            What ``change`` returned, once it is durable.

        Raises:
            StorageFullError: No room; nothing was changed.
            Memory3Error: What ``change`` raised; nothing was changed.
        """
        result: T = self.queue.run(Waiting(change, then, num_bytes))
        return result

    def paused(self) -> AbstractContextManager[None]:
        """Let nobody write meanwhile; who is inside must not write either."""
        return self.queue.paused()

    def copy(self, path: Path) -> None:
        """Write a compacted, consistent copy into an empty folder while others read and write.

        Record by record: LMDB's own compacting copy (0.9.36) kills the process where a key has some
        hundred values of one size, as a source of so many references has. Every record is read on
        the way, and nothing gets into the copy but records.
        """
        with typed_faults(self.resource):
            self._copy_records(path)
            failpoint("snapshot.copied")

    def rewrite(self) -> None:
        """Put in place of the file one with the same records and nothing else, while others read.

        LMDB's own compaction copies pages as they are, and in the gaps of a page stand bytes of
        records that were deleted; here every record is put into new pages. Those who write wait
        only where writes went on during the copy, for a second copy.

        Raises:
            StorageFullError: There is no room for the copy; nothing was changed.
            CorruptDataError: A page cannot be read; nothing was changed.
        """
        with typed_faults(self.resource), temporary_folder(self.path.parent) as work:
            done = self._copy_records(work)
            if self._syncer is not None:
                self._syncer.stop()
            with self.paused():
                try:
                    if self._lmdb.info()["last_txnid"] != done:
                        (work / DATA_FILE).unlink()
                        self._copy_records(work)
                    self._swap(work / DATA_FILE)
                except BaseException:
                    if self._syncer is not None:
                        self._syncer.release()
                        self._start_syncer()
                    raise

    def _copy_records(self, folder: Path) -> int:
        with self._gate.shared(), self._lmdb.begin() as txn:
            copy_records(txn, self.databases, self._options, folder, self._lmdb.info()["map_size"])
            return int(txn.id())

    def _swap(self, data_file: Path) -> None:
        sync(data_file)
        is_async = self._syncer is not None
        with self._gate.alone():
            size = self._lmdb.info()["map_size"]
            self._close()
            failpoint("rewrite.written")
            os.replace(data_file, self.path / DATA_FILE)
            failpoint("rewrite.replaced")
            sync(self.path)
            self._open(size, sync=not is_async)
            if is_async:
                self._start_syncer()

    def _start_syncer(self) -> None:
        self._syncer = Syncer(self._lmdb, self.path, self.path / DATA_FILE, self.sync)
        self._syncer.sync()
        self._syncer.start()

    def disk_bytes(self) -> int:
        """The room that the data file takes on the disk."""
        with self._gate.shared(), typed_faults(self.resource):
            status = (self.path / DATA_FILE).stat()
            return min(status.st_size, status.st_blocks * 512)

    def set_durability(self, durability: Durability) -> None:
        """Choose what an acknowledged change survives; to begin with, a loss of power.

        Raises:
            BackendUnavailableError: The disk failed.
        """
        if (durability == "async") == (self._syncer is not None):
            return
        if self._syncer is not None:
            self._syncer.stop()
        with self.paused(), self._gate.alone(), typed_faults(self.resource):
            size = self._lmdb.info()["map_size"]
            self._close()
            self._open(size, sync=durability == "fsync")
            if durability == "async":
                self._start_syncer()

    def sync(self) -> None:
        """Make durable what was committed without a sync, if anything was."""
        with self.paused(), self._gate.shared(), typed_faults(self.resource):
            if self._syncer is not None and self._syncer.is_due:
                self._syncer.sync()

    def close(self) -> None:
        """Close for good, after the last transaction."""
        if self._syncer is not None:
            self._syncer.stop()
        with self._gate.alone(close=True), typed_faults(self.resource):
            self._close()

    def _check_pages(self) -> None:
        """Damage that LMDB would follow out of the file is found before LMDB has it."""
        if (self.path / DATA_FILE).exists() and (self.path / DATA_FILE).stat().st_size:
            try:
                check_pages(self.path / DATA_FILE)
            except DamagedPagesError as error:
                raise self._damaged(str(error)) from error

    def _open(self, map_bytes: int, *, sync: bool) -> None:
        self._lmdb = lmdb.open(
            os.fspath(self.path),
            map_size=_whole_pages(map_bytes),
            max_dbs=len(self._options),
            max_readers=_MAX_READERS,
            # Reads are of single values all over the file.
            readahead=False,
            sync=sync,
        )
        self._check_length()
        # The same dictionary, for others keep it.
        self.databases.update(
            {name: self._lmdb.open_db(name, **options) for name, options in self._options}
        )

    def _close(self) -> None:
        if self._syncer is None:
            self._lmdb.close()
            return
        self._syncer.release()
        self._lmdb.sync(True)
        self._lmdb.close()
        forget_synced(self.path)
        self._syncer = None

    def _commit(self, group: Sequence[Waiting]) -> None:
        while True:
            try:
                with self._gate.shared(), typed_faults(self.resource):
                    if self._syncer is not None and not self._syncer.is_holding:
                        self._syncer.sync()
                    self._run(group)
                    self._fill_up()
                    if self._syncer is not None:
                        self._syncer.is_due = True
                    return
            except lmdb.MapFullError:
                self._grow()
            except Memory3Error as error:
                if isinstance(error.__cause__, lmdb.Error):
                    self._recover()
                raise

    def _recover(self) -> None:
        """Open the files again where LMDB gave them up.

        A header that could not be written makes LMDB refuse every later write, though the disk may
        be well again.
        """
        try:
            with self._gate.shared():
                self._lmdb.begin(write=True).abort()
        except lmdb.PanicError:
            with self._gate.alone(), typed_faults(self.resource):
                size, is_async = self._lmdb.info()["map_size"], self._syncer is not None
                if self._syncer is not None:
                    self._syncer.release()
                self._lmdb.close()
                self._check_pages()
                self._open(size, sync=not is_async)
                if is_async:
                    self._start_syncer()
        except lmdb.Error:
            pass  # the next write tells of it

    def _run(self, group: Sequence[Waiting]) -> None:
        txn = self._lmdb.begin(write=True)
        try:
            for each in group:
                self._run_one(each, txn)
            failpoint("bank.before-commit")
            txn.commit()
            failpoint("bank.after-commit")
        except BaseException as error:
            txn.abort()
            # LMDB tells of a write that was cut short as of any other failure of the disk.
            if type(error) is lmdb.Error and not self._can_grow_file():
                raise storage_full(self.resource, "the disk is full") from error
            raise

    def _run_one(self, waiting: Waiting, txn: Transaction) -> None:
        try:
            with typed_faults(self.resource):
                waiting.result = waiting.change(txn)
        except lmdb.MapFullError:
            raise
        except BaseException as error:
            waiting.error = error
            raise

    def _can_grow_file(self) -> bool:
        handle = os.open(self.path / DATA_FILE, os.O_RDWR)
        size = os.fstat(handle).st_size
        try:
            os.posix_fallocate(handle, size, _PROBE_BYTES)
        except OSError:
            return False
        finally:
            os.ftruncate(handle, size)
            os.close(handle)
        return True

    def _grow(self) -> None:
        with self._gate.alone():
            size = self._lmdb.info()["map_size"]
            larger = _whole_pages(min(size * 2, self._max_map_bytes))
            if larger <= size:
                raise storage_full(self.resource, f"it may take {self._max_map_bytes} bytes")
            with typed_faults(self.resource):
                if self._syncer is not None:
                    self._syncer.release()
                failpoint("bank.before-growing")
                self._lmdb.set_mapsize(larger)
                failpoint("bank.after-growing")
                if self._syncer is not None:
                    self._syncer.sync()

    def _fill_up(self) -> None:
        """LMDB does not write a page that a transaction both took and gave back.

        At the end of the file such a page makes the file shorter than its own header says, which
        would look like damage at the next start.
        """
        needed = self._needed_bytes()
        if (self.path / DATA_FILE).stat().st_size < needed:
            os.truncate(self.path / DATA_FILE, needed)

    def _needed_bytes(self) -> int:
        pages: int = self._lmdb.info()["last_pgno"] + 1
        return pages * int(self._lmdb.stat()["psize"])

    def _check_length(self) -> None:
        """A map that reaches past the end of its file would kill the process at the first read."""
        if (self.path / DATA_FILE).stat().st_size < self._needed_bytes():
            self._lmdb.close()
            raise self._damaged("it is cut short")

    def _damaged(self, why: str) -> CorruptDataError:
        return CorruptDataError(
            f"the data file of {self.resource} is damaged: {why}",
            field="bank",
            remedy="restore the bank from a snapshot",
            metadata={"resource": self.resource},
        )


def _whole_pages(size: int) -> int:
    page = os.sysconf("SC_PAGE_SIZE")
    return max(size, 64 * page) // page * page
