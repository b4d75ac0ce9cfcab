"""Second names of banks, kept in one small file that is replaced whole.

It must not know whether a bank exists: the catalog does, and holds its lock around every change.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crc32c import crc32c

from memory3.errors import CorruptDataError, FailedPreconditionError
from memory3_retriever.bank.faults import typed_faults
from memory3_retriever.bank.names import is_bank_id, resource_name
from memory3_retriever.failpoints import failpoint
from memory3_retriever.files import TEMPORARY_PREFIX, sync

ALIASES_FILE = "aliases.json"
_FORMAT = "memory3-aliases-1"


@dataclass(frozen=True, slots=True)
class Alias:
    """A second name: the ids of alias, bank, and the bank before (empty for none); when set."""

    name: str
    bank: str
    previous_bank: str
    update_time_ns: int


class Aliases:
    """The aliases of a data folder.

    A file that is damaged keeps no bank from being opened: it is told of when an alias is used.

    Args:
        folder: The data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ALIASES_FILE
        self._lock = threading.Lock()
        self._fault: CorruptDataError | None = None
        self._by_name: dict[str, Alias] = {}
        try:
            self._by_name = _read(self._path)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            self._fault = CorruptDataError(
                "the file of aliases is damaged",
                field="bank",
                remedy=f"move {ALIASES_FILE} out of the data folder, start the retriever again and "
                "set the aliases anew; no bank is affected",
            )

    def get(self, name: str) -> Alias | None:
        """An alias by its id.

        Raises:
            CorruptDataError: The file is damaged, so nobody knows.
        """
        self._check()
        return self._by_name.get(name)

    def all(self) -> list[Alias]:
        """All aliases in the order of their names.

        Raises:
            CorruptDataError: The file is damaged.
        """
        self._check()
        return [alias for _, alias in sorted(self._by_name.items())]

    def of(self, bank: str) -> list[str]:
        """The ids of the aliases that point at a bank, as far as they are known."""
        by_name = self._by_name
        return sorted(name for name, alias in by_name.items() if alias.bank == bank)

    def put(self, name: str, bank: str, expected_bank: str = "") -> Alias:
        """Point an alias at a bank, durably.

        Args:
            name: The alias.
            bank: The bank; it exists.
            expected_bank: Where the alias must point now; empty for anywhere.

        Raises:
            FailedPreconditionError: It points elsewhere.
            StorageFullError: There is no room; nothing was changed.
        """
        with self._lock:
            self._check()
            before = self._by_name.get(name)
            now_at = before.bank if before is not None else ""
            if expected_bank and now_at != expected_bank:
                where = f"points at {resource_name(now_at)}" if now_at else "does not exist"
                raise FailedPreconditionError(
                    f"alias {resource_name(name)} {where}, not at {resource_name(expected_bank)}",
                    field="expected_bank",
                    remedy="somebody else may have set it: list the aliases, then decide anew",
                    metadata={"resource": resource_name(name)},
                )
            if before is not None and now_at == bank:
                return before
            alias = Alias(name, bank, now_at, time.time_ns())
            self._replace({**self._by_name, name: alias})
            return alias

    def remove(self, name: str) -> bool:
        """Forget an alias, durably; whether there was one."""
        with self._lock:
            self._check()
            if name not in self._by_name:
                return False
            self._replace({key: each for key, each in self._by_name.items() if key != name})
            return True

    def follow(self, by_name: Mapping[str, Alias]) -> None:
        """Have these aliases and no others, durably; a damaged file is replaced.

        Raises:
            StorageFullError: There is no room; nothing was changed.
        """
        with self._lock:
            if self._fault is not None or self._by_name != by_name:
                self._replace(dict(by_name))
                self._fault = None

    def _check(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _replace(self, by_name: dict[str, Alias]) -> None:
        body: dict[str, Any] = {
            "format": _FORMAT,
            "aliases": [asdict(alias) for _, alias in sorted(by_name.items())],
        }
        body["crc32c"] = _checksum(body)
        temporary = self._path.with_name(f"{TEMPORARY_PREFIX}{ALIASES_FILE}")
        with typed_faults("the file of aliases"):
            with temporary.open("w") as file:
                file.write(json.dumps(body, indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            failpoint("aliases.written")
            os.replace(temporary, self._path)
            failpoint("aliases.replaced")
            sync(self._path.parent)
        # One assignment: whoever resolves a name sees the one state or the other.
        self._by_name = by_name


def _read(path: Path) -> dict[str, Alias]:
    body = json.loads(path.read_text())
    if body.pop("crc32c") != _checksum(body) or body["format"] != _FORMAT:
        raise ValueError("another checksum or format")
    aliases = [Alias(**each) for each in body["aliases"]]
    if not all(is_bank_id(each.name) and is_bank_id(each.bank) for each in aliases):
        raise ValueError("a name that is none")
    return {each.name: each for each in aliases}


def _checksum(body: dict[str, Any]) -> int:
    return int(crc32c(json.dumps(body, sort_keys=True).encode()))
