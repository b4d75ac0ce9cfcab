"""Aliases for readers: published beside the generations, and never ahead of them.

``aliases.json`` names for each alias the generation of its bank that a reader must serve before the
alias points there; until then it stays where it was. An alias is published once its bank is, as far
as the bank was written when the alias was set.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from memory3.errors import CorruptDataError, Memory3Error, NotFoundError, UnavailableError
from memory3.rpc.logging import get_logger
from memory3_retriever.bank.aliases import Alias
from memory3_retriever.bank.catalog import Catalog
from memory3_retriever.bank.names import is_bank_id
from memory3_retriever.replication import generation as generations
from memory3_retriever.replication.generation import Generation
from memory3_retriever.replication.shared import SharedStorage

_FILE = "aliases.json"
_FORMAT = "memory3-published-aliases-1"
_PAUSE_S = 1.0

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PublishedAlias:
    """An alias, and the generation that its bank has to have reached.

    Attributes:
        alias: The alias.
        uid: The bank's own random number.
        generation: The first generation with all that the bank held when the alias was set.
    """

    alias: Alias
    uid: str
    generation: int

    def may_be_served(self, served: Generation | None) -> bool:
        """Whether a reader that serves this of the bank may point the alias there."""
        return served is not None and served.uid == self.uid and served.number >= self.generation


def read_aliases(storage: SharedStorage) -> list[PublishedAlias] | None:
    """What was published; None if nothing was.

    Raises:
        CorruptDataError: It cannot be read.
        BackendUnavailableError: The storage does not answer.
    """
    data = storage.get(_FILE)
    if data is None:
        return None
    try:
        values = json.loads(data)
        if values["format"] != _FORMAT:
            raise ValueError("another format")
        found = [
            PublishedAlias(Alias(**each["alias"]), str(each["uid"]), int(each["generation"]))
            for each in values["aliases"]
        ]
        if not all(is_bank_id(e.alias.name) and is_bank_id(e.alias.bank) for e in found):
            raise ValueError("a name that is none")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptDataError(
            "the published aliases cannot be read",
            field="alias",
            remedy="set an alias at the retriever that publishes, or start it again",
        ) from error
    return found


def write_aliases(storage: SharedStorage, aliases: list[PublishedAlias]) -> None:
    """Put these in place of those before.

    Raises:
        BackendUnavailableError: The storage did not take them.
    """
    values = {"format": _FORMAT, "aliases": [asdict(each) for each in aliases]}
    storage.put(_FILE, json.dumps(values, indent=2).encode())


class AliasPublisher:
    """Publishes the aliases of a catalog, as soon as their banks are published.

    Args:
        catalog: Has the aliases and the banks.
        storage: Where to.
    """

    def __init__(self, catalog: Catalog, storage: SharedStorage) -> None:
        self._catalog, self._storage = catalog, storage
        # The revision that each bank had when its alias was first seen.
        self._awaited: dict[Alias, int] = {}
        self._changed, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="alias-publisher", daemon=True)

    def start(self) -> None:
        """Publish what there is, and from now on what changes."""
        self._thread.start()
        self.wake()

    def wake(self) -> None:
        """Look again: an alias was changed, or a bank published."""
        self._changed.set()

    def close(self) -> None:
        """Publish no longer."""
        self._ended.set()
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join()

    def publish(self) -> None:
        """Write what readers may follow by now, where that has changed.

        Raises:
            CorruptDataError: The file of aliases is damaged.
            BackendUnavailableError: The storage does not answer.
        """
        before = self._published()
        told = {each.alias.name: each for each in before or ()}
        aliases = self._catalog.aliases.all()
        self._awaited = {
            alias: revision for alias, revision in self._awaited.items() if alias in aliases
        }
        found = [each for alias in aliases if (each := self._ready(alias, told)) is not None]
        if found != before and (found or before is not None):
            write_aliases(self._storage, found)
            _log.info("aliases published", count=len(found))

    def _published(self) -> list[PublishedAlias] | None:
        try:
            return read_aliases(self._storage)
        except CorruptDataError:
            return []  # the next writing replaces it

    def _ready(self, alias: Alias, told: Mapping[str, PublishedAlias]) -> PublishedAlias | None:
        """What readers are to be told of an alias: where it points, or still where it did."""
        before = told.get(alias.name)
        try:
            bank = self._catalog.get(alias.bank)
            if before is not None and (before.alias, before.uid) == (alias, bank.info.uid):
                return before
            revision = self._awaited.setdefault(alias, bank.store.counters().revision)
            pointer = generations.pointed(self._storage, alias.bank)
            if pointer is None or pointer.deleted:
                return before
            last = generations.read_manifest(self._storage, alias.bank, pointer.number)
        except (CorruptDataError, NotFoundError):
            return before
        if last is None or last.uid != bank.info.uid or last.revision < revision:
            return before
        return PublishedAlias(alias, last.uid, last.number)

    def _run(self) -> None:
        while True:
            self._changed.wait()
            if self._ended.is_set():
                return
            self._changed.clear()
            try:
                self.publish()
            except UnavailableError as error:
                _log.warning("aliases are not published yet", reason=error.reason)
                self._ended.wait(_PAUSE_S)
                self._changed.set()
            except Memory3Error as error:
                _log.error("aliases are not published", reason=error.reason)
            except Exception:
                _log.exception("aliases are not published")
