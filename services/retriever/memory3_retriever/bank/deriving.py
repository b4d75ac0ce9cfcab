"""What can be made of the other records of a bank, made anew: sources, lookups and sums.

It must not know why that is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memory3_retriever.bank.environment import Transaction
from memory3_retriever.bank.ledger import COUNTERS_KEY, MEMORIES, META, REFERENCES, VECTORS
from memory3_retriever.bank.lookups import KEY_BYTES, LOOKUPS_KEY, enter_all
from memory3_retriever.bank.records import Counters
from memory3_retriever.bank.sources import ORDERED_KEY, put_in_order


def derive(txn: Transaction, databases: Mapping[bytes, Any], revision: int) -> None:
    """Make sources, lookups and sums anew from references, vectors and memories.

    Args:
        txn: A transaction that writes.
        databases: The environment's databases by name.
        revision: The bank's revision after it.
    """
    num_sources = put_in_order(txn, databases, REFERENCES)
    memory_bytes, memories = _size(txn, databases[MEMORIES])
    used = enter_all(txn, databases, REFERENCES) + memories + _size(txn, databases[VECTORS])[1]
    counters = Counters(revision, num_sources, memory_bytes, used)
    txn.put(COUNTERS_KEY, counters.to_bytes(COUNTERS_KEY), db=databases[META])
    for key in (ORDERED_KEY, LOOKUPS_KEY):
        txn.put(key, b"1", db=databases[META])


def _size(txn: Transaction, database: Any) -> tuple[int, int]:
    """The bytes of a database's values, and of all its records."""
    with txn.cursor(database) as cursor:
        sizes = [len(value) for _, value in cursor]
    return sum(sizes), sum(sizes) + KEY_BYTES * len(sizes)
