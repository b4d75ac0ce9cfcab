"""Writing all records of an environment into a new one, so that nothing else is in its file.

It must not know what the records are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lmdb

# The records of one transaction of the copy; what is not committed stands in main memory.
_BATCH_BYTES = 16 << 20


def copy_records(
    source: Any,
    handles: Mapping[bytes, Any],
    options: Sequence[tuple[bytes, dict[str, Any]]],
    folder: Path,
    map_bytes: int,
) -> None:
    """Put every record that a transaction sees into a new environment.

    Args:
        source: A transaction that reads.
        handles: Its databases by name.
        options: The names of the databases, with LMDB's options for each.
        folder: The folder of the new environment; it holds none yet.
        map_bytes: The size of the map of the old one.

    Raises:
        lmdb.Error: A page cannot be read, or the disk failed.
    """
    # Page by page the copy may be filled less densely than the original.
    target = lmdb.open(
        os.fspath(folder), map_size=2 * map_bytes, max_dbs=len(options), sync=False, lock=False
    )
    try:
        for name, chosen in options:
            _copy(source, handles[name], target, target.open_db(name, **chosen))
        target.sync(True)
    finally:
        target.close()


def _copy(source: Any, handle: Any, target: Any, into: Any) -> None:
    with source.cursor(handle) as cursor:
        rows = iter(cursor)
        more = True
        while more:
            num_bytes, more = 0, False
            with target.begin(write=True) as txn:
                for key, value in rows:
                    txn.put(key, value, db=into, append=True)
                    num_bytes += len(key) + len(value)
                    if num_bytes >= _BATCH_BYTES:
                        more = True
                        break
