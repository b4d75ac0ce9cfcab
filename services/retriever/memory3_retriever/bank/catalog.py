"""All banks of a data folder: finding, making, restoring and removing them.

One process has a data folder to itself. A bank is made in a temporary folder and then renamed, so
a crash leaves it whole or not there; what was left behind is swept at the next start.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from memory3.errors import (
    AlreadyExistsError,
    CorruptDataError,
    FailedPreconditionError,
    Memory3Error,
    NotFoundError,
)
from memory3.rpc.logging import get_logger
from memory3_retriever.bank.aliases import Alias, Aliases
from memory3_retriever.bank.faults import typed_faults
from memory3_retriever.bank.live import LiveBank, make_index
from memory3_retriever.bank.names import is_bank_id, resource_name
from memory3_retriever.bank.records import BankInfo, Durability, EmbedderIdentity, WritePolicy
from memory3_retriever.bank.snapshot import Snapshot, restore_snapshot, write_snapshot
from memory3_retriever.bank.snapshot_places import open_snapshots
from memory3_retriever.bank.store import BankStore
from memory3_retriever.files import discard, lock_folder, publish, sweep, temporary_folder

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NewBank:
    """What a bank is made with; see ``BankInfo``."""

    name: str
    embedder: EmbedderIdentity
    index: str
    codec: str
    write_policy: WritePolicy
    description: str = ""
    quota_bytes: int = 0
    default_ttl_ns: int = 0
    durability: Durability = "fsync"
    made_from: str = ""


class Catalog:
    """The banks in ``folder/banks``, and their snapshots.

    Args:
        folder: The data folder; made if it is not there.
        checkpoint_digest: The checkpoint that new and restored banks belong to.
        map_bytes: The size of a bank's map to begin with.
        max_bank_bytes: The size that no bank's map passes.
        follows: The banks are copies of another retriever's, given by `swap`.
        snapshots: Where snapshots are, as a folder or URL; empty for ``folder/snapshots``.

    Attributes:
        aliases: Second names of the banks.
        snapshots: The snapshots.

    Raises:
        InvalidArgumentError: ``snapshots`` is not of a form that can be used.
        FailedPreconditionError: Another process uses the folder.
        BackendUnavailableError: The folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        checkpoint_digest: str,
        *,
        map_bytes: int,
        max_bank_bytes: int,
        follows: bool = False,
        snapshots: str = "",
    ) -> None:
        self._follows = follows
        self._digest = checkpoint_digest
        self._map_bytes = map_bytes
        self._max_bank_bytes = max_bank_bytes
        self._banks_folder = folder / "banks"
        # Making or restoring a bank takes long; finding one must not wait for it.
        self._changing = threading.Lock()
        self._lock = threading.Lock()
        self._banks: dict[str, LiveBank] = {}
        self._broken: dict[str, Memory3Error] = {}
        with typed_faults("the data folder"):
            for each in (folder, self._banks_folder):
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_handle = lock_folder(folder)
            sweep(self._banks_folder)
            self.aliases = Aliases(folder)
        try:
            self.snapshots = open_snapshots(snapshots or os.fspath(folder / "snapshots"))
        except BaseException:
            os.close(self._lock_handle)
            raise

    def open_all(self) -> None:
        """Open every bank; one that cannot be opened is told of when it is asked for."""
        for path in sorted(self._banks_folder.iterdir()):
            if is_bank_id(path.name) and path.is_dir() and not path.is_symlink():
                with self._changing:
                    self._try_open(path)

    def names(self) -> list[str]:
        """The ids of all banks, in order."""
        with self._lock:
            return sorted({*self._banks, *self._broken})

    def open_banks(self) -> list[LiveBank]:
        """The banks that can be used now."""
        with self._lock:
            return list(self._banks.values())

    def __len__(self) -> int:
        with self._lock:
            return len(self._banks)

    def get(self, name: str, field: str = "bank") -> LiveBank:
        """An open bank.

        Args:
            name: Its id, or that of an alias.
            field: The request's field, for the error.

        Raises:
            NotFoundError: There is no such bank.
            Memory3Error: Why the bank could not be opened.
        """
        with self._lock:
            name = self._own_name(name)
            if name in self._broken:
                raise self._broken[name]
            if name not in self._banks:
                raise _not_found(name, field)
            return self._banks[name]

    def damaged(self, name: str) -> str:
        """The id of a bank, by its own or an alias's, whose files are damaged; empty for others."""
        with self._lock:
            name = self._own_name(name)
            return name if isinstance(self._broken.get(name), CorruptDataError) else ""

    def mend(self, name: str, change: Callable[[Path], bool]) -> LiveBank | None:
        """Have the files of a bank changed that could not be opened, and open it.

        Args:
            name: Its id.
            change: Given its folder; says whether it changed anything.

        Raises:
            Memory3Error: What ``change`` raised, or why the bank cannot be opened even so.
        """
        self.require_own(name)
        path = self._banks_folder / name
        with self._changing, typed_faults(resource_name(name)):
            if not change(path):
                return None
            bank = self._open(path)
            with self._lock:
                self._broken.pop(name, None)
            return bank

    def create(self, new: NewBank) -> LiveBank:
        """Make an empty bank.

        Raises:
            AlreadyExistsError: The name is taken.
            PluginNotFoundError: There is no such index.
            InvalidArgumentError: The index does not take its argument.
            StorageFullError: There is no room.
        """
        self.require_own(new.name)
        make_index(new.index, new.embedder.dimensions).close()
        info = BankInfo(
            name=new.name,
            uid=uuid.uuid4().hex,
            checkpoint_digest=self._digest,
            embedder=new.embedder,
            index=new.index,
            codec=new.codec,
            write_policy=new.write_policy,
            description=new.description,
            create_time_ns=time.time_ns(),
            made_from=new.made_from,
            quota_bytes=new.quota_bytes,
            default_ttl_ns=new.default_ttl_ns,
            durability=new.durability,
        )
        with self._changing, typed_faults(resource_name(new.name)):
            self._require_free(new.name)
            with temporary_folder(self._banks_folder) as work:
                self._open_store(work, new.name, info).close()
                publish(work, self._banks_folder / new.name)
            return self._open(self._banks_folder / new.name)

    def delete(self, name: str) -> bool:
        """Remove a bank with everything in it, also one that cannot be opened.

        Returns:
            Whether there was one.

        Raises:
            FailedPreconditionError: Aliases point at it, or it is itself an alias.
        """
        self.require_own(name)
        with self._changing, typed_faults(resource_name(name)):
            self._require_no_alias(name)
            path = self._banks_folder / name
            with self._lock:
                bank = self._banks.pop(name, None)
                self._broken.pop(name, None)
            if bank is not None:
                bank.close()
            if path.is_symlink() or not path.is_dir():
                return False
            discard(path)
            return True

    def snapshot(self, name: str, snapshot_id: str) -> Snapshot:
        """Write a snapshot of a bank while it is in use.

        Raises:
            NotFoundError: There is no such bank.
            AlreadyExistsError: There is such a snapshot.
        """
        bank = self.get(name, "name")
        with bank.copying:
            return write_snapshot(bank.store, self.snapshots, snapshot_id, self.staging)

    @property
    def staging(self) -> Path:
        """Where temporary folders are made; what is left in it is swept at the next start."""
        return self._banks_folder

    def restore(self, snapshot_id: str, name: str) -> LiveBank:
        """Make a bank of a snapshot.

        Raises:
            NotFoundError: There is no such snapshot.
            AlreadyExistsError: The name is taken.
            CorruptDataError: The snapshot is damaged.
            CheckpointMismatchError: It belongs to another checkpoint.
        """
        self.require_own(name)
        with self._changing:
            self._require_free(name)
            restore_snapshot(
                self.snapshots,
                snapshot_id,
                self._banks_folder / name,
                checkpoint_digest=self._digest,
                max_bank_bytes=self._max_bank_bytes,
            )
            return self._open(self._banks_folder / name)

    def swap(self, name: str, bank: LiveBank) -> None:
        """Serve another bank under a name from now on.

        Whoever has the one before goes on with it; it must close itself when nobody has it.
        """
        with self._lock:
            self._banks[name] = bank

    def drop(self, name: str) -> None:
        """Serve a bank no longer that was given by `swap`."""
        with self._lock:
            self._banks.pop(name, None)

    def close(self) -> None:
        """Close all banks and let another process have the folder."""
        with self._changing:
            with self._lock:
                banks, self._banks = list(self._banks.values()), {}
            for bank in banks:
                bank.close()
            os.close(self._lock_handle)

    def _own_name(self, name: str) -> str:
        if name in self._banks or name in self._broken:
            return name
        alias = self.aliases.get(name)
        return name if alias is None else alias.bank

    def _try_open(self, path: Path) -> None:
        try:
            self._open(path)
        except Memory3Error as error:
            _log.error("a bank cannot be opened", bank=path.name, reason=error.reason)
            if isinstance(error, CorruptDataError):
                error.remedy = "mend the bank (memory3 bank repair), or restore a snapshot"
            with self._lock:
                self._broken[path.name] = error

    def _open(self, path: Path) -> LiveBank:
        store = self._open_store(path, path.name)
        try:
            bank = LiveBank(store, path)
        except BaseException:
            store.close()
            raise
        with self._lock:
            self._banks[path.name] = bank
        return bank

    def _open_store(self, path: Path, name: str, info: BankInfo | None = None) -> BankStore:
        return BankStore(
            path, name, map_bytes=self._map_bytes, max_map_bytes=self._max_bank_bytes, info=info
        )

    def require_own(self, name: str) -> None:
        """Refuse to change what is a copy of another retriever's.

        Raises:
            FailedPreconditionError: This retriever follows another one.
        """
        if self._follows:
            raise FailedPreconditionError(
                f"{resource_name(name)} cannot be changed here: this retriever follows another one",
                field="name",
                remedy="send changes to the retriever that publishes",
                metadata={"resource": resource_name(name)},
            )

    def set_alias(self, name: str, bank: str, expected_bank: str = "") -> Alias:
        """Point an alias at an open bank, at once for all callers.

        Raises:
            AlreadyExistsError: The name is a bank's.
            NotFoundError: There is no such bank.
            FailedPreconditionError: The alias does not point at ``expected_bank``.
        """
        self.require_own(name)
        with self._changing:
            self._require_no_bank(name)
            with self._lock:
                if bank in self._broken:
                    raise self._broken[bank]
                if bank not in self._banks:
                    raise _not_found(bank, "bank")
            return self.aliases.put(name, bank, expected_bank)

    def _require_no_alias(self, name: str) -> None:
        pointing = self.aliases.of(name)
        if pointing:
            named = ", ".join(map(resource_name, pointing))
            raise FailedPreconditionError(
                f"{resource_name(name)} is what {named} stands for",
                field="name",
                remedy="point the alias at another bank, or delete it, first",
                metadata={"resource": resource_name(name), "aliases": named},
            )
        with self._lock:
            is_bank = name in self._banks or name in self._broken
        if not is_bank and self.aliases.get(name) is not None:
            raise FailedPreconditionError(
                f"{resource_name(name)} is an alias, not a bank",
                field="name",
                remedy="name the bank itself, or delete the alias with DeleteAlias "
                "(memory3 bank alias delete)",
                metadata={"resource": resource_name(name)},
            )

    def _require_free(self, name: str) -> None:
        self._require_no_bank(name)
        if self.aliases.get(name) is not None:
            raise AlreadyExistsError(
                f"{resource_name(name)} is an alias",
                field="name",
                remedy="choose another name, or delete the alias first",
                metadata={"resource": resource_name(name)},
            )

    def _require_no_bank(self, name: str) -> None:
        path = self._banks_folder / name
        if path.exists() or path.is_symlink():
            raise AlreadyExistsError(
                f"there is a bank {resource_name(name)} already",
                field="name",
                remedy="choose another name, or delete that bank first",
                metadata={"resource": resource_name(name)},
            )


def _not_found(name: str, field: str) -> NotFoundError:
    return NotFoundError(
        f"there is no bank {resource_name(name)}",
        field=field,
        remedy="create it first, or list the banks",
        metadata={"resource": resource_name(name)},
    )
