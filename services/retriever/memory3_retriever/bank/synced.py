"""What makes commits without a sync sound: the way back to the last state that was synced.

LMDB begins a commit's pages anywhere, and ends it by writing one of two meta pages at the beginning
of the file. Without a sync after each, a loss of power may leave a meta page on the disk whose
pages are not. So, at every sync, both meta pages are copied to a file beside the data; and as long
as a reader holds that state open, LMDB uses none of its pages again. After a loss of power, which
the system's boot id tells from a mere end of the process, the meta pages are put back, and the bank
is exactly what it was when it was synced. It must not know what a bank holds.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crc32c import crc32c

from memory3.errors import CorruptDataError, Memory3Error
from memory3.rpc.logging import get_logger
from memory3_retriever.files import sync

# How often what was not synced is: what a loss of power may take.
SYNC_SECONDS = 1.0

SYNCED_FILE = "synced.meta"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MAGIC = b"memory3-synced-1"
_log = get_logger(__name__)

# Magic, the crc32c of what follows, the length of a page, the length of the boot id.
_HEADER = struct.Struct("<16sIII")


def boot_id() -> str:
    """What is another one after every start of the system; empty where the system has none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def keep_synced(folder: Path, data_file: Path, page_bytes: int) -> None:
    """Keep the meta pages of data that were synced just now, and that nobody writes.

    Raises:
        OSError: The disk failed; what was kept before is intact.
    """
    with data_file.open("rb") as data:
        pages = data.read(2 * page_bytes)
    boot = boot_id().encode()
    body = boot + pages
    temporary = folder / f"{SYNCED_FILE}.new"
    with temporary.open("wb") as file:
        file.write(_HEADER.pack(_MAGIC, crc32c(body), page_bytes, len(boot)) + body)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / SYNCED_FILE)
    sync(folder)


def forget_synced(folder: Path) -> None:
    """Remove what was kept, once every commit is synced.

    Raises:
        OSError: The disk failed.
    """
    for name in (f"{SYNCED_FILE}.new", SYNCED_FILE):
        (folder / name).unlink(missing_ok=True)
    sync(folder)


def go_back(folder: Path, data_file: Path, resource: str) -> bool:
    """Put the kept meta pages back, if the system was started anew since they were kept.

    Call it before the data are opened.

    Returns:
        Whether the data went back to their last synced state.

    Raises:
        CorruptDataError: What was kept is damaged, so the data cannot be trusted either.
        OSError: The disk failed.
    """
    try:
        kept = (folder / SYNCED_FILE).read_bytes()
    except FileNotFoundError:
        return False
    body = kept[_HEADER.size :]
    magic, checksum, page_bytes, boot_bytes = (
        _HEADER.unpack_from(kept) if len(kept) >= _HEADER.size else (b"", 0, 0, 0)
    )
    if magic != _MAGIC or checksum != crc32c(body) or len(body) != boot_bytes + 2 * page_bytes:
        raise CorruptDataError(
            f"{SYNCED_FILE} of {resource} is damaged, which says what of the bank is whole",
            field="bank",
            remedy="restore the bank from a snapshot",
            metadata={"resource": resource},
        )
    boot = body[:boot_bytes].decode()
    if boot and boot == boot_id():
        return False
    with data_file.open("r+b") as data:
        data.write(body[boot_bytes:])
        data.flush()
        os.fsync(data.fileno())
    return True


class Syncer:
    """Syncs an environment of LMDB now and then, and holds its last synced state open.

    Args:
        native: The environment.
        folder: Its folder.
        data_file: Its data.
        sync: Calls ``sync`` of this object while nobody writes.

    Attributes:
        is_due: Whether anything was committed since.
    """

    def __init__(
        self, native: Any, folder: Path, data_file: Path, sync: Callable[[], None]
    ) -> None:
        self.is_due = False
        self._native = native
        self._folder = folder
        self._data_file = data_file
        self._sync = sync
        self._held: Any = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bank-sync", daemon=True)

    @property
    def is_holding(self) -> bool:
        """Whether the last synced state is held open, without which nothing may be committed."""
        return self._held is not None

    def start(self) -> None:
        """Sync in the background from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Sync no more in the background."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def sync(self) -> None:
        """Sync; nobody may write meanwhile.

        Raises:
            OSError: The disk failed.
        """
        self._native.sync(True)
        keep_synced(self._folder, self._data_file, int(self._native.stat()["psize"]))
        # The state before is let go only when this one is held and kept.
        held, self._held = self._held, self._native.begin()
        self.is_due = False
        if held is not None:
            held.abort()

    def release(self) -> None:
        """Hold nothing; nothing may be committed before the next sync."""
        if self._held is not None:
            self._held.abort()
            self._held = None

    def _run(self) -> None:
        while not self._stopped.wait(SYNC_SECONDS):
            try:
                if self.is_due:
                    self._sync()
            except Memory3Error as error:
                _log.error("changes were not synced yet", reason=error.reason)
