"""The reader's side: brings published generations in, checks them, and serves them.

A generation is served whole or not at all: calls that began with the one before end with it, for
they hold its bank, which is closed when the last of them lets go. What was served last stands on
the reader's own disk and is served at once after a restart, also while the storage is away.
"""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from memory3.errors import CorruptDataError, Memory3Error
from memory3.rpc.logging import get_logger
from memory3_retriever.bank.catalog import Catalog
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.names import is_bank_id
from memory3_retriever.bank.store import BankStore
from memory3_retriever.files import publish, sweep, temporary_folder
from memory3_retriever.metrics import RetrieverMetrics
from memory3_retriever.replication import generation as generations
from memory3_retriever.replication.aliases import PublishedAlias, read_aliases
from memory3_retriever.replication.generation import Generation
from memory3_retriever.replication.shared import SharedStorage

MANIFEST_FILE = "manifest.json"

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """What a reader serves of a bank.

    Attributes:
        generation: The generation.
        behind_since_ns: When the oldest generation was published that is not served yet, in
            nanoseconds since 1970; None if there is none.
    """

    generation: Generation
    behind_since_ns: int | None = None

    def lag_ns(self) -> int:
        """How old what is not served yet is."""
        return 0 if self.behind_since_ns is None else max(0, time.time_ns() - self.behind_since_ns)


class Follower:
    """Follows all banks of a shared storage.

    Args:
        catalog: Serves them; nothing else is in it.
        storage: Where the writer publishes.
        folder: The reader's own copies.
        every_s: Seconds between looks.
        max_bank_bytes: The largest map of a bank.
        metrics: Told of generations and lag.
    """

    def __init__(
        self,
        catalog: Catalog,
        storage: SharedStorage,
        folder: Path,
        every_s: float,
        max_bank_bytes: int,
        metrics: RetrieverMetrics,
    ) -> None:
        self._catalog, self._storage, self._folder = catalog, storage, folder
        self._every_s, self._max_bank_bytes = every_s, max_bank_bytes
        self._metrics = metrics
        self._served: dict[str, Served] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for each in folder.iterdir():
            sweep(each)

    def start(self) -> None:
        """Serve what is on disk, then what is published, then follow."""
        self._serve_own()
        self.look()
        self._thread.start()

    def close(self) -> None:
        """Follow no longer."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def served(self, name: str) -> Served | None:
        """What is served of a bank."""
        return self._served.get(name)

    def look(self) -> None:
        """Take up what is new, and give up what was deleted.

        A bank that is merely not there any more stays: a share that is not mounted is empty.
        """
        try:
            # First, so that what they name is among what is there to be brought in.
            aliases = self._aliases()
            names = generations.bank_names(self._storage)
        except Memory3Error as error:
            _log.warning("the shared storage cannot be read", reason=error.reason)
            return
        deleted = []
        for name in names:
            try:
                if self._follow(name):
                    deleted.append(name)
            except Memory3Error as error:
                _log.warning("a generation is not served", bank=name, reason=error.reason)
            except Exception:
                _log.exception("a generation is not served", bank=name)
        if aliases is not None:
            self._point(aliases)
        for name in deleted:
            # Until the alias has gone where it is to go, its bank stays.
            if not self._catalog.aliases.of(name):
                self._drop(name)

    def _aliases(self) -> list[PublishedAlias] | None:
        try:
            return read_aliases(self._storage)
        except CorruptDataError as error:
            _log.warning("the published aliases are not followed", reason=error.reason)
            return None

    def _point(self, published: list[PublishedAlias]) -> None:
        """Have aliases point where they are to, those whose generation is served by now."""
        try:
            own = {alias.name: alias for alias in self._catalog.aliases.all()}
        except CorruptDataError:
            own = {}  # they are copies, and written anew
        wanted = {}
        for each in published:
            name, served = each.alias.name, self._served.get(each.alias.bank)
            if each.may_be_served(None if served is None else served.generation):
                wanted[name] = each.alias
            elif name in own:
                wanted[name] = own[name]
        try:
            self._catalog.aliases.follow(wanted)
        except Memory3Error as error:
            _log.warning("aliases are not followed", reason=error.reason)

    def _drop(self, name: str) -> None:
        self._catalog.drop(name)
        if self._served.pop(name, None) is not None:
            for gauge in (self._metrics.replica_generation, self._metrics.replica_lag):
                gauge.remove(name)
            _log.info("not served any more", bank=name)
        shutil.rmtree(self._folder / name, ignore_errors=True)

    def _lag_s(self, name: str) -> float:
        served = self._served.get(name)
        return 0.0 if served is None else served.lag_ns() / 1e9

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self.look()

    def _follow(self, name: str) -> bool:
        """Serve what is published of a bank; whether it was deleted."""
        told = generations.pointed(self._storage, name)
        served = self._served.get(name)
        if told is not None and told.deleted:
            return True
        if told is None or (served is not None and served.generation.number >= told.number):
            return False
        number = told.number
        wanted = generations.read_manifest(self._storage, name, number)
        if wanted is None:
            raise CorruptDataError(
                f"generation {number} of banks/{name} is named and not there", field="generation"
            )
        if served is not None and served.behind_since_ns is None:
            self._served[name] = Served(served.generation, wanted.publish_time_ns)
        self._serve(wanted, self._bring(wanted))
        return False

    def _bring(self, wanted: Generation) -> Path:
        """A generation's files on this disk, each with the hash of the manifest."""
        own = self._folder / wanted.bank
        own.mkdir(mode=0o700, exist_ok=True)
        final = own / str(wanted.number)
        if final.is_dir():  # whole, or it would not have its name
            return final
        with temporary_folder(own) as work:
            for name, file in wanted.files.items():
                stored = f"{generations.folder_of(wanted.bank, wanted.number)}/{name}"
                (work / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                try:
                    actual = self._storage.get_file(stored, work / name)
                except FileNotFoundError as error:
                    raise _damaged(wanted, f"{name} is missing") from error
                if actual != (file.sha256, file.size_bytes):
                    raise _damaged(wanted, f"{name} has another hash than its manifest")
            manifest = self._storage.get(
                f"{generations.folder_of(wanted.bank, wanted.number)}/{MANIFEST_FILE}"
            )
            if manifest is None:
                raise _damaged(wanted, "it was removed while it was read")
            (work / MANIFEST_FILE).write_bytes(manifest)
            publish(work, final)
        return final

    def _serve(self, wanted: Generation, path: Path) -> None:
        store = BankStore(path, wanted.bank, map_bytes=0, max_map_bytes=self._max_bank_bytes)
        try:
            info = store.info
            if (info.uid, info.checkpoint_digest) != (wanted.uid, wanted.checkpoint_digest):
                raise _damaged(wanted, "its data file is of another bank")
            bank = LiveBank(store, path, follows=True)
        except BaseException:
            store.close()
            raise
        self._catalog.swap(wanted.bank, bank)
        self._served[wanted.bank] = Served(wanted)
        self._metrics.replica_generation.labels(wanted.bank).set(wanted.number)
        lag = self._metrics.replica_lag.labels(wanted.bank)
        lag.set_function(lambda: self._lag_s(wanted.bank))
        _log.info("serving", bank=wanted.bank, generation=wanted.number, revision=wanted.revision)
        # Open files stay readable without a name; calls that began before end with them.
        for other in (self._folder / wanted.bank).iterdir():
            if other != path:
                shutil.rmtree(other, ignore_errors=True)

    def _serve_own(self) -> None:
        for own in sorted(self._folder.iterdir()):
            numbers = sorted(int(path.name) for path in own.iterdir() if path.name.isdigit())
            if not numbers or not is_bank_id(own.name):
                continue
            path = own / str(numbers[-1])
            try:
                data = (path / MANIFEST_FILE).read_bytes()
                kept = generations.parse_manifest(data, own.name, numbers[-1])
                self._serve(kept, path)
            except (Memory3Error, OSError) as error:
                _log.warning("a copy of its own is not served", bank=own.name, error=str(error))
                shutil.rmtree(own, ignore_errors=True)


def _damaged(generation: Generation, why: str) -> CorruptDataError:
    return CorruptDataError(
        f"generation {generation.number} of banks/{generation.bank} is damaged: {why}",
        field="generation",
        remedy="publish the bank again",
        metadata={"resource": f"banks/{generation.bank}"},
    )
