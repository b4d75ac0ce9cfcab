"""Whether the keys of a bank's databases belong together, looked at when it is opened.

The values of records have checksums; a damaged key has none, and would make its record vanish
without a word. It must not know what values hold, but for the source of a reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np

from memory3.errors import CorruptDataError
from memory3_retriever.bank.environment import Transaction
from memory3_retriever.bank.key_lists import Keys, are_within, keys_of, packed
from memory3_retriever.bank.ledger import MEMORIES, REFERENCES, VECTORS
from memory3_retriever.bank.records import Reference
from memory3_retriever.bank.sources import SOURCES, source_key

# Entries of the sources looked at together.
_BLOCK = 1 << 16


def require_whole(txn: Transaction, databases: Mapping[bytes, Any], resource: str) -> None:
    """Refuse a bank in which a record's key has no counterpart.

    Args:
        txn: A consistent view.
        databases: The environment's databases by name.
        resource: The bank's resource name, for the error.

    Raises:
        CorruptDataError: References, vectors, memories and sources do not belong together.
    """
    references, vectors, memories = (
        _keys(txn, databases[name]) for name in (REFERENCES, VECTORS, MEMORIES)
    )
    whole = (
        references is not None and vectors is not None and memories is not None
        and np.array_equal(vectors, references)
        and are_within(memories, references)
        and _sources_fit(txn, databases, references)
    )  # fmt: skip
    if not whole:
        raise CorruptDataError(
            f"the files of {resource} are damaged: its references, vectors, memories and sources "
            "do not belong together",
            field="bank",
            remedy="restore the bank from a snapshot",
            metadata={"resource": resource},
        )


def _keys(txn: Transaction, database: Any) -> Keys | None:
    with txn.cursor(database) as cursor:
        return keys_of(cursor)


def _sources_fit(txn: Transaction, databases: Mapping[bytes, Any], references: Keys) -> bool:
    """Every key of a source is a reference's, and the first of each is of that source."""
    last = b""
    with txn.cursor(databases[SOURCES]) as cursor:
        pairs = cursor.iternext() if cursor.first() else iter(())
        while block := list(islice(pairs, _BLOCK)):
            keys = packed([key for _, key in block])
            if keys is None or not are_within(keys, references):
                return False
            for source, key in block:
                if source != last:
                    last = source
                    data = txn.get(key, db=databases[REFERENCES])
                    if not _is_of(key, data, source):
                        return False
    return True


def _is_of(key: bytes, data: bytes, source: bytes) -> bool:
    try:
        return source_key(Reference.from_bytes(key, data).source) == source
    except CorruptDataError:
        return True  # its own checksum tells of it when it is read
