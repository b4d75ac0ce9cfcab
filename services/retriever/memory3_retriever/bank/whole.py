"""Whether the keys of a bank's databases belong together, looked at when it is opened.

The values of records have checksums; a damaged key has none, and would make its record vanish
without a word. It must not know what values hold, but for the source of a reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memory3.errors import CorruptDataError
from memory3_retriever.bank.environment import Transaction
from memory3_retriever.bank.ledger import MEMORIES, REFERENCES, VECTORS
from memory3_retriever.bank.records import Reference
from memory3_retriever.bank.sources import SOURCES, source_key


def require_whole(txn: Transaction, databases: Mapping[bytes, Any], resource: str) -> None:
    """Refuse a bank in which a record's key has no counterpart.

    Args:
        txn: A consistent view.
        databases: The environment's databases by name.
        resource: The bank's resource name, for the error.

    Raises:
        CorruptDataError: References, vectors, memories and sources do not belong together.
    """
    references = _keys(txn, databases[REFERENCES])
    whole = _keys(txn, databases[VECTORS]) == references
    whole = whole and _keys(txn, databases[MEMORIES]) <= references
    with txn.cursor(databases[SOURCES]) as cursor:
        last = b""
        for source, key in cursor:
            whole = whole and key in references
            if whole and source != last:
                last = source
                whole = _is_of(key, txn.get(key, db=databases[REFERENCES]), source)
    if not whole:
        raise CorruptDataError(
            f"the files of {resource} are damaged: its references, vectors, memories and sources "
            "do not belong together",
            field="bank",
            remedy="restore the bank from a snapshot",
            metadata={"resource": resource},
        )


def _keys(txn: Transaction, database: Any) -> set[bytes]:
    with txn.cursor(database) as cursor:
        return set(cursor.iternext(keys=True, values=False))


def _is_of(key: bytes, data: bytes, source: bytes) -> bool:
    try:
        return source_key(Reference.from_bytes(key, data).source) == source
    except CorruptDataError:
        return True  # its own checksum tells of it when it is read
