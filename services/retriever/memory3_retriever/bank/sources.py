"""The sources of a bank as keys of its ``sources`` database: in order, so that one holds others.

What is inside a source stands right behind it: the records and parts of a file (``a.csv#row/1``)
behind the file, the files of a folder behind the folder's name with its slash. It must not know
transactions' ends, counters or the wire.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from memory3.errors import CorruptDataError
from memory3_retriever.bank.environment import Transaction
from memory3_retriever.bank.records import Reference

SOURCES: Final = b"sources"
# In ``meta``: says that the keys of SOURCES are those of this module. Banks from before had hashes.
ORDERED_KEY: Final = b"sources in order"

# LMDB takes keys of up to 511 bytes, and stepping behind one takes a byte more.
PLAIN_SOURCE_BYTES: Final = 477


def source_key(source: str) -> bytes:
    """The key of a source: its own bytes; of a long one the first 477, and a sha256 of them all.

    Only a long source's key has 509 bytes, so no two sources have the same.
    """
    encoded = source.encode()
    if len(encoded) <= PLAIN_SOURCE_BYTES:
        return encoded
    return encoded[:PLAIN_SOURCE_BYTES] + hashlib.sha256(encoded).digest()


class SourceNames:
    """Reads the sources of a bank within one transaction.

    Args:
        txn: The transaction.
        sources: The database of sources.
        references: The database of references, which have the names too long for a key.
    """

    def __init__(self, txn: Transaction, sources: Any, references: Any) -> None:
        self._txn = txn
        self._sources = sources
        self._references = references

    def keys_of(self, source: str) -> set[bytes]:
        """The keys of the references of exactly this source."""
        return self._values(source_key(source))

    def keys_within(self, source: str) -> set[bytes]:
        """The keys of the references of a source and of all that is inside it."""
        return {value for key, _ in self.within(source) for value in self._values(key)}

    def within(self, source: str, after: str = "") -> Iterator[tuple[bytes, str]]:
        """A source and all that is inside it, in the order of keys.

        Args:
            source: A source that ends with ``/`` holds all that begin with it; another holds those
                that go on with ``#``. Empty for all sources.
            after: Begin behind this one.

        Yields:
            The key and the name of each.
        """
        last = source_key(after) if after else b""
        encoded = source.encode()
        if not source or source.endswith("/"):
            yield from self._beginning_with(encoded, last)
        elif len(encoded) < PLAIN_SOURCE_BYTES:
            if encoded > last and self._values(encoded):
                yield encoded, source
            yield from self._beginning_with(encoded + b"#", last)
        else:
            # The hash in its key puts a long source anywhere among those that begin alike.
            for key, name in self._beginning_with(encoded, last):
                if name == source or name.startswith(f"{source}#"):
                    yield key, name

    def _beginning_with(self, prefix: bytes, last: bytes) -> Iterator[tuple[bytes, str]]:
        low = prefix[:PLAIN_SOURCE_BYTES]
        with self._txn.cursor(self._sources) as cursor:
            if not cursor.set_range(max(low, last + b"\0")):
                return
            for key in cursor.iternext_nodup(keys=True, values=False):
                if not key.startswith(low):
                    return
                name = self._name(key)
                # A key has the whole of a short prefix; of a long one only the name has the rest.
                if name is not None and name.encode().startswith(prefix):
                    yield key, name

    def _name(self, key: bytes) -> str | None:
        if len(key) <= PLAIN_SOURCE_BYTES:
            return key.decode()
        for value in self._values(key):
            data = self._txn.get(value, db=self._references)
            try:
                if data is not None:
                    return Reference.from_bytes(value, data).source
            except CorruptDataError:
                continue
        return None

    def _values(self, key: bytes) -> set[bytes]:
        with self._txn.cursor(self._sources) as cursor:
            return set(cursor.iternext_dup()) if cursor.set_key(key) else set()


def put_in_order(txn: Transaction, databases: Mapping[bytes, Any], references: bytes) -> int:
    """Fill the database of sources again from the references.

    A damaged reference is left out: which source it had cannot be known, and verifying tells of it.

    Returns:
        The number of sources.
    """
    txn.drop(databases[SOURCES], delete=False)
    names: set[bytes] = set()
    with txn.cursor(databases[references]) as cursor:
        for key, data in cursor:
            try:
                source = Reference.from_bytes(key, data).source
            except CorruptDataError:
                continue
            if source:
                names.add(source_key(source))
                txn.put(source_key(source), key, db=databases[SOURCES])
    return len(names)
