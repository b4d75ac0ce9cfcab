"""Where references are looked up by what they say: by title and metadata, and by expiry.

Two databases hold the keys of references, and change in the transaction that changes these:
``metadata`` (a key of the metadata with its value to references) and ``expiry`` (a time to
references). It must not know filters, counters or the wire.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from memory3.errors import CorruptDataError
from memory3_retriever.bank.environment import Transaction
from memory3_retriever.bank.records import Reference
from memory3_retriever.bank.sources import SOURCES

METADATA: Final = b"metadata"
EXPIRY: Final = b"expiry"
# In ``meta``: says that both are kept, and that the counters know the bytes in use. Banks from
# before are read once, when they are opened.
LOOKUPS_KEY: Final = b"lookups"

KEY_BYTES: Final = 16
# LMDB takes keys of up to 511 bytes.
PLAIN_VALUE_BYTES: Final = 256
_PLAIN_NAME_BYTES: Final = 128
_TIME_BYTES: Final = 12

# No UTF-8 begins with these.
TITLE_PREFIX: Final = b"\xfe"
_HASHED: Final = b"\xff"


def name_prefix(name: str) -> bytes:
    """What the pairs of one key of the metadata begin with, and no others."""
    encoded = name.encode()
    if len(encoded) <= _PLAIN_NAME_BYTES and b"\0" not in encoded:
        return encoded + b"\0"
    return _HASHED + hashlib.sha256(encoded).digest()


def value_suffix(value: str) -> bytes:
    """What follows: the value; of a long one the first 256 bytes, and a sha256 of them all.

    Only a long value has 288 bytes, so no two values have the same, and all are in order up to
    their first 256 bytes.
    """
    encoded = value.encode()
    if len(encoded) <= PLAIN_VALUE_BYTES:
        return encoded
    return encoded[:PLAIN_VALUE_BYTES] + hashlib.sha256(encoded).digest()


def pairs_of(reference: Reference) -> list[bytes]:
    """The keys in ``metadata`` under which a reference stands."""
    pairs = [name_prefix(name) + value_suffix(value) for name, value in reference.metadata.items()]
    if reference.title:
        pairs.append(TITLE_PREFIX + value_suffix(reference.title))
    return pairs


def expiry_key(time_ns: int) -> bytes:
    """The key in ``expiry`` of a time in nanoseconds since 1970; in the order of times."""
    return time_ns.to_bytes(_TIME_BYTES, "big")


class Lookups:
    """Writes both databases within one transaction.

    Args:
        txn: A transaction that writes.
        databases: The environment's databases by name.

    Attributes:
        num_bytes: By how many bytes they have grown.
    """

    def __init__(self, txn: Transaction, databases: Mapping[bytes, Any]) -> None:
        self._txn = txn
        self._db = databases
        self.num_bytes = 0

    def enter(self, reference: Reference) -> None:
        """Make a reference found by what it says."""
        for database, found_by in entries_of(reference):
            if self._txn.put(found_by, reference.key, db=self._db[database], dupdata=False):
                self.num_bytes += len(found_by) + KEY_BYTES

    def leave(self, reference: Reference) -> None:
        """Take it out."""
        for database, found_by in entries_of(reference):
            self._delete(database, found_by, reference.key)

    def purge(self, key: bytes) -> None:
        """Take a reference out whose record cannot be read: it is looked for everywhere."""
        for database in (METADATA, EXPIRY):
            with self._txn.cursor(self._db[database]) as cursor:
                found = [found_by for found_by, value in cursor if value == key]
            for found_by in found:
                self._delete(database, found_by, key)

    def _delete(self, database: bytes, found_by: bytes, key: bytes) -> None:
        if self._txn.delete(found_by, key, db=self._db[database]):
            self.num_bytes -= len(found_by) + KEY_BYTES


def expired(txn: Transaction, database: Any, now: int, limit: int) -> list[bytes]:
    """The keys of at most so many references that expired by a time, the first to expire first."""
    keys: list[bytes] = []
    last = expiry_key(now)
    with txn.cursor(database) as cursor:
        for time, key in cursor:
            if time > last or len(keys) == limit:
                break
            keys.append(key)
    return keys


def enter_all(txn: Transaction, databases: Mapping[bytes, Any], references: bytes) -> int:
    """Fill both databases from the references, for a bank from before.

    A damaged reference is left out: verifying tells of it.

    Returns:
        The bytes of references, sources and both databases, with their keys.
    """
    for database in (METADATA, EXPIRY):
        txn.drop(databases[database], delete=False)
    lookups = Lookups(txn, databases)
    num_bytes = 0
    with txn.cursor(databases[references]) as cursor:
        for key, data in cursor:
            num_bytes += KEY_BYTES + len(data)
            try:
                reference = Reference.from_bytes(key, data)
            except CorruptDataError:
                continue
            lookups.enter(reference)
    with txn.cursor(databases[SOURCES]) as cursor:
        num_bytes += sum(len(source) + KEY_BYTES for source in cursor.iternext(values=False))
    return num_bytes + lookups.num_bytes


def entries_of(reference: Reference) -> Iterator[tuple[bytes, bytes]]:
    """The databases in which a reference is looked up, each with the key that it has there."""
    for pair in pairs_of(reference):
        yield METADATA, pair
    if reference.expire_time_ns:
        yield EXPIRY, expiry_key(reference.expire_time_ns)
