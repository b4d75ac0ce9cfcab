"""Which references a filter lets through, found by way of the databases that look them up.

Sets of references are arrays of keys in order, as LMDB hands them out by the page: half a million
of them are read in the time that ten thousand records are. It must not know indexes or the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from memory3.errors import CorruptDataError
from memory3_retriever.bank.environment import Transaction
from memory3_retriever.bank.filters import (
    SOURCE_FIELD,
    TITLE_FIELD,
    AnyOf,
    Condition,
    Exists,
    Filter,
)
from memory3_retriever.bank.lookups import (
    KEY_BYTES,
    METADATA,
    PLAIN_VALUE_BYTES,
    TITLE_PREFIX,
    name_prefix,
    value_suffix,
)
from memory3_retriever.bank.records import Reference
from memory3_retriever.bank.sources import PLAIN_SOURCE_BYTES, SOURCES, source_key

# Keys in order. Of strings of one length, numpy's comparison is that of bytes.
Keys = npt.NDArray[np.bytes_]

_KEY = np.dtype(f"S{KEY_BYTES}")
_NONE: Keys = np.empty(0, dtype=_KEY)


@dataclass(frozen=True, eq=False, slots=True)
class Matches:
    """A set of references.

    Attributes:
        keys: Those in it; or those that are not, where ``is_inverted``.
        is_inverted: Whether it is all references but these.
        num_references: How many references the bank has.
    """

    keys: Keys
    is_inverted: bool
    num_references: int

    def __len__(self) -> int:
        return self.num_references - len(self.keys) if self.is_inverted else len(self.keys)

    def __contains__(self, key: bytes) -> bool:
        return bool(self.has([key])[0])

    def has(self, keys: Sequence[bytes]) -> npt.NDArray[np.bool_]:
        """For each of the keys, whether it is in it."""
        inside = _is_in(np.array(keys, dtype=_KEY), self.keys)
        return ~inside if self.is_inverted else inside

    def listed(self, all_keys: Callable[[], set[bytes]]) -> list[bytes]:
        """Every key in it, in order.

        Args:
            all_keys: Gives the keys of all references.
        """
        keys = _as_list(self.keys)
        return sorted(all_keys().difference(keys)) if self.is_inverted else keys

    def without(self, other: Matches) -> list[bytes]:
        """Every key in it that is not in another; neither may be inverted."""
        return _as_list(self.keys[~_is_in(self.keys, other.keys)])


class _Field(NamedTuple):
    """Where the values of one key of the metadata stand."""

    database: bytes
    prefix: bytes
    suffix: Callable[[str], bytes]
    plain_bytes: int
    value_of: Callable[[Reference], str | None]


class Matcher:
    """Reads within one transaction.

    Args:
        txn: The transaction.
        databases: The environment's databases by name.
        references: The name of the one of references.
    """

    def __init__(self, txn: Transaction, databases: Mapping[bytes, Any], references: bytes) -> None:
        self._txn = txn
        self._db = databases
        self._references = databases[references]

    def matching(self, where: Filter) -> Matches:
        """The references for which all conditions hold."""
        inside: Keys | None = None
        outside = _NONE
        for condition in where:
            found = self._found(condition)
            if isinstance(condition.test, Exists) and not condition.test.wanted:
                outside = found if not len(outside) else np.union1d(outside, found)
            else:
                inside = found if inside is None else inside[_is_in(inside, found)]
        num_references = self._txn.stat(self._references)["entries"]
        if inside is None:
            return Matches(outside, True, num_references)
        return Matches(inside[~_is_in(inside, outside)], False, num_references)

    def _found(self, condition: Condition) -> Keys:
        """Those that have the key, and whose value passes."""
        field = _field(condition.key)
        test = condition.test
        with self._txn.cursor(self._db[field.database]) as cursor:
            if isinstance(test, AnyOf):
                entries = [field.prefix + field.suffix(value) for value in test.values]
                return _merged([_values(cursor, entry) for entry in entries])
            # Reading values moves the cursor, so the entries are listed first.
            listed = list(_entries(cursor, field))
            if isinstance(test, Exists):
                return _merged([_values(cursor, entry) for entry in listed])
            accepts = test.predicate()
            found = []
            for entry in listed:
                keys = _values(cursor, entry)
                value = self._value(field, entry, keys)
                if value is not None and accepts(value):
                    found.append(keys)
            return _merged(found)

    def _value(self, field: _Field, entry: bytes, keys: Keys) -> str | None:
        suffix = entry[len(field.prefix) :]
        if len(suffix) <= field.plain_bytes:
            return suffix.decode()
        # An entry has only the beginning of a long value; the references have all of it.
        for key in map(_whole, keys):
            data = self._txn.get(key, db=self._references)
            try:
                if data is not None:
                    return field.value_of(Reference.from_bytes(key, data))
            except CorruptDataError:
                continue
        return None


def _field(key: str) -> _Field:
    if key == SOURCE_FIELD:
        return _Field(SOURCES, b"", source_key, PLAIN_SOURCE_BYTES, lambda r: r.source)
    if key == TITLE_FIELD:
        return _Field(METADATA, TITLE_PREFIX, value_suffix, PLAIN_VALUE_BYTES, lambda r: r.title)
    prefix = name_prefix(key)
    return _Field(METADATA, prefix, value_suffix, PLAIN_VALUE_BYTES, lambda r: r.metadata.get(key))


def _entries(cursor: Any, field: _Field) -> Iterator[bytes]:
    """The keys of a database under which the values of a field stand."""
    prefix = field.prefix
    if not (cursor.set_range(prefix) if prefix else cursor.first()):
        return
    for entry in cursor.iternext_nodup(keys=True, values=False):
        if not entry.startswith(prefix):
            return
        yield entry


def _values(cursor: Any, entry: bytes) -> Keys:
    """All values of one key, by the page."""
    if not entry:
        return _NONE
    found = cursor.getmulti([entry], dupdata=True, dupfixed_bytes=KEY_BYTES, keyfixed=True)
    if not len(found):
        return _NONE
    rows = np.frombuffer(found, dtype=[("entry", f"V{len(entry)}"), ("key", _KEY)])
    return np.ascontiguousarray(rows["key"])


def _merged(parts: list[Keys]) -> Keys:
    parts = [part for part in parts if len(part)]
    if len(parts) < 2:
        return parts[0] if parts else _NONE
    return np.sort(np.concatenate(parts))


def _is_in(keys: Keys, others: Keys) -> npt.NDArray[np.bool_]:
    """For each of the keys, whether it is among the others."""
    if not len(others):
        return np.zeros(len(keys), dtype=np.bool_)
    places = np.searchsorted(others, keys)
    found: npt.NDArray[np.bool_] = others[np.minimum(places, len(others) - 1)] == keys
    return found


def _whole(key: Any) -> bytes:
    """A key with the zeros at its end, which numpy leaves out."""
    return bytes(key).ljust(KEY_BYTES, b"\0")


def _as_list(keys: Keys) -> list[bytes]:
    data = keys.tobytes()
    return [data[start : start + KEY_BYTES] for start in range(0, len(data), KEY_BYTES)]
