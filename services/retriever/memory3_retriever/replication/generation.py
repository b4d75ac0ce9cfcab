"""What a generation is: an immutable copy of a bank in shared storage, and how it is named there.

banks/NAME/current.json                       the number that readers are to serve
banks/NAME/generations/NUMBER/manifest.json   written last: without it there is no generation
banks/NAME/generations/NUMBER/…               data.mdb, and the files of index/
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from memory3.errors import CorruptDataError
from memory3_retriever.bank.names import is_bank_id
from memory3_retriever.replication.shared import SharedStorage

DATA_FILE = "data.mdb"
_FORMAT = "memory3-bank-generation-1"
_CURRENT_FORMAT = "memory3-current-generation-1"
_MANIFEST = "manifest.json"
_INDEX_NAME = re.compile(r"index(/[A-Za-z0-9][A-Za-z0-9._-]{0,100}){1,4}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a generation: its sha256, hexadecimal, and its size in bytes."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation.

    Attributes:
        bank: The bank's id.
        number: Grows with every generation of the bank.
        uid: The bank's own random number: a bank of the same name made later is another one.
        revision: The bank's revision in it.
        checkpoint_digest: The checkpoint that the bank belongs to.
        publish_time_ns: When it was published, in nanoseconds since 1970.
        files: Its files by name.
    """

    bank: str
    number: int
    uid: str
    revision: int
    checkpoint_digest: str
    publish_time_ns: int
    files: dict[str, StoredFile]

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.files.values())


def folder_of(bank: str, number: int) -> str:
    """Where a generation is stored."""
    return f"banks/{bank}/generations/{number:012d}"


def bank_names(storage: SharedStorage) -> list[str]:
    """The ids of the banks that something was published of."""
    return [name for name in storage.folders("banks") if is_bank_id(name)]


def numbers(storage: SharedStorage, bank: str) -> list[int]:
    """The numbers of all generations of a bank, half-written ones among them, in order."""
    found = storage.folders(f"banks/{bank}/generations")
    return sorted(int(name) for name in found if name.isdigit())


def write_manifest(storage: SharedStorage, generation: Generation) -> None:
    """Complete a generation whose files are stored."""
    values = {"format": _FORMAT, **asdict(generation)}
    name = f"{folder_of(generation.bank, generation.number)}/{_MANIFEST}"
    storage.put(name, json.dumps(values, indent=2).encode())


def read_manifest(storage: SharedStorage, bank: str, number: int) -> Generation | None:
    """A generation; None if it is not complete.

    Raises:
        CorruptDataError: The manifest is not one.
    """
    data = storage.get(f"{folder_of(bank, number)}/{_MANIFEST}")
    return None if data is None else parse_manifest(data, bank, number)


def parse_manifest(data: bytes, bank: str, number: int) -> Generation:
    """The generation that a manifest's bytes describe.

    Raises:
        CorruptDataError: They describe none, or another one.
    """
    values = _object(data, _FORMAT, bank)
    try:
        files = {name: StoredFile(**file) for name, file in values.pop("files").items()}
        generation = Generation(files=files, **values)
        plain = all(is_plain(name) for name in files)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise _damaged(bank, "its manifest has another form") from error
    if (
        not plain
        or DATA_FILE not in files
        or (generation.bank, generation.number) != (bank, number)
    ):
        raise _damaged(bank, "its manifest is of something else")
    return generation


def is_plain(name: str) -> bool:
    """Whether a file's name leads nowhere else."""
    return name == DATA_FILE or _INDEX_NAME.fullmatch(name) is not None


def point(storage: SharedStorage, bank: str, number: int, *, deleted: bool = False) -> None:
    """Tell readers which generation to serve, or that the bank is gone."""
    values = {"format": _CURRENT_FORMAT, "number": number, "deleted": deleted}
    storage.put(f"banks/{bank}/current.json", json.dumps(values).encode())


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which generation readers are to serve, and whether the bank was deleted after it."""

    number: int
    deleted: bool


def pointed(storage: SharedStorage, bank: str) -> Pointer | None:
    """What readers are told; None if there is nothing yet.

    Raises:
        CorruptDataError: The pointer is none.
    """
    data = storage.get(f"banks/{bank}/current.json")
    if data is None:
        return None
    values = _object(data, _CURRENT_FORMAT, bank)
    number, deleted = values.get("number"), values.get("deleted")
    if not isinstance(number, int) or not isinstance(deleted, bool):
        raise _damaged(bank, "its pointer has no number")
    return Pointer(number, deleted)


def _object(data: bytes, form: str, bank: str) -> dict[str, Any]:
    try:
        values = json.loads(data)
        if values.pop("format") != form:
            raise ValueError("another format")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _damaged(bank, "what describes it cannot be read") from error
    return dict(values)


def _damaged(bank: str, why: str) -> CorruptDataError:
    return CorruptDataError(
        f"a generation of banks/{bank} is damaged: {why}",
        field="generation",
        remedy="publish the bank again",
        metadata={"resource": f"banks/{bank}"},
    )
