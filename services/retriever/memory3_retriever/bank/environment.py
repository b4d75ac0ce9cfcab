"""One LMDB environment: transactions that fail typed, and a map that grows without a restart.

It must not know what the databases hold. Commits are synced to the disk before they return.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from memory3.errors import CorruptDataError, Memory3Error
from memory3_retriever.bank.faults import storage_full, typed_faults
from memory3_retriever.bank.gate import Gate
from memory3_retriever.bank.pages import DamagedPagesError, check_pages
from memory3_retriever.failpoints import failpoint

DATA_FILE = "data.mdb"

# One slot for every thread that reads; more threads than this serve no single process here.
_MAX_READERS = 1024
# Where the data file cannot grow by this, a failed write failed for want of room.
_PROBE_BYTES = 16 << 20

# LMDB's own type for values is a union with views, which are only given where they are asked for.
Transaction = Any

T = TypeVar("T")


class Environment:
    """An open LMDB environment. One process opens a path once.

    Args:
        path: Its folder.
        resource: The bank's resource name, for errors.
        databases: The names of its databases, with LMDB's options for each.
        map_bytes: The size of the map to begin with; it doubles when it is full.
        max_map_bytes: The size that the map never passes.

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
    ) -> None:
        self.path = path
        self.resource = resource
        self._max_map_bytes = max_map_bytes
        self._gate = Gate(resource)
        self._write_lock = threading.Lock()
        used = (path / DATA_FILE).stat().st_size if (path / DATA_FILE).exists() else 0
        self._declared = tuple(databases)
        self.databases: dict[bytes, Any] = {}
        with typed_faults(resource):
            self._open(_whole_pages(max(min(map_bytes, max_map_bytes), used * 2)))

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A consistent view of everything; keep it short, for a growing map waits for it."""
        with self._gate.shared(), typed_faults(self.resource), self._lmdb.begin() as txn:
            yield txn

    def write(self, change: Callable[[Transaction], T]) -> T:
        """Run a change in one transaction and sync it.

        Args:
            change: Called with the transaction, and again with a new one if the map had to grow.

        Returns:
            What ``change`` returned, once it is durable.

        Raises:
            StorageFullError: No room; nothing was changed.
            Memory3Error: What ``change`` raised; nothing was changed.
        """
        with self._write_lock:
            while True:
                try:
                    with self._gate.shared(), typed_faults(self.resource):
                        result = self._commit(change)
                        self._fill_up()
                        return result
                except lmdb.MapFullError:
                    self._grow()
                except Memory3Error as error:
                    if isinstance(error.__cause__, lmdb.Error):
                        self._recover()
                    raise

    def copy(self, path: Path) -> None:
        """Write a compacted, consistent copy into an empty folder while others read and write."""
        with self._gate.shared(), typed_faults(self.resource):
            self._lmdb.copy(os.fspath(path), compact=True)
            failpoint("snapshot.copied")

    def disk_bytes(self) -> int:
        """The room that the data file takes on the disk."""
        with self._gate.shared(), typed_faults(self.resource):
            status = (self.path / DATA_FILE).stat()
            return min(status.st_size, status.st_blocks * 512)

    def close(self) -> None:
        """Close for good, after the last transaction."""
        with self._gate.alone(close=True):
            self._lmdb.close()

    def _open(self, map_bytes: int) -> None:
        if (self.path / DATA_FILE).exists() and (self.path / DATA_FILE).stat().st_size:
            try:
                check_pages(self.path / DATA_FILE)
            except DamagedPagesError as error:
                raise self._damaged(str(error)) from error
        self._lmdb = lmdb.open(
            os.fspath(self.path),
            map_size=map_bytes,
            max_dbs=len(self._declared),
            max_readers=_MAX_READERS,
            # Reads are of single values all over the file.
            readahead=False,
        )
        self._check_length()
        opened = {name: self._lmdb.open_db(name, **options) for name, options in self._declared}
        self.databases.update(opened)

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
                size = self._lmdb.info()["map_size"]
                self._lmdb.close()
                self._open(size)
        except lmdb.Error:
            pass  # the next write tells of it

    def _commit(self, change: Callable[[Transaction], T]) -> T:
        txn = self._lmdb.begin(write=True)
        try:
            result = change(txn)
            failpoint("bank.before-commit")
            txn.commit()
            failpoint("bank.after-commit")
        except BaseException as error:
            txn.abort()
            # LMDB tells of a write that was cut short as of any other failure of the disk.
            if type(error) is lmdb.Error and not self._can_grow_file():
                raise storage_full(self.resource, "the disk is full") from error
            raise
        return result

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
                failpoint("bank.before-growing")
                self._lmdb.set_mapsize(larger)
                failpoint("bank.after-growing")

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
