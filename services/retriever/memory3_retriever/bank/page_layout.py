"""How LMDB 0.9 lays out its file on 64-bit machines: headers, pages, records.

Read with every bound checked. It must not know how pages hang together.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

MAGIC = 0xBEEFC0DE
# What kind a page is.
BRANCH, LEAF, LONG, META, DIRTY, LEAF2, SUBPAGE = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40
# What kind the value of a record is.
IN_LONG, IN_TREE, DUPLICATES = 0x01, 0x02, 0x04
# What kind a tree is.
DUPLICATE_KEYS, INTEGER_KEYS, FIXED_SIZE = 0x04, 0x08, 0x10
NO_PAGE = (1 << 64) - 1
HEADER = 16
NODE_BYTES = 8
MAX_DEPTH = 32

PAGE_FORM = struct.Struct("<QHHHH")
META_FORM = struct.Struct("<IIQQ48s48sQQ")
_NODE_FORM = struct.Struct("<HHHH")
_TREE_FORM = struct.Struct("<IHHQQQQQ")


class DamagedPagesError(ValueError):
    """The file contradicts itself; the text says where."""


def require(holds: bool, otherwise: str) -> None:
    """Refuse the file where something does not hold.

    Raises:
        DamagedPagesError: It does not; the text is ``otherwise``.
    """
    if not holds:
        raise DamagedPagesError(otherwise)


@dataclass(slots=True)
class Tree:
    """What LMDB notes of a database: its flags, its size, and where it begins."""

    pad: int
    flags: int
    depth: int
    num_branches: int
    num_leaves: int
    num_long: int
    num_entries: int
    root: int

    @classmethod
    def of(cls, data: bytes) -> Tree:
        """Read it.

        Raises:
            DamagedPagesError: The data have another length.
        """
        require(len(data) == _TREE_FORM.size, "the description of a database has another length")
        return cls(*_TREE_FORM.unpack(data))


def places(page: bytes, lower: int, upper: int) -> tuple[int, ...]:
    """Where in a page its records begin."""
    count = (lower - HEADER) // 2
    require(
        lower % 2 == 0 and count >= 1 and lower <= upper <= len(page), "a page has other bounds"
    )
    found = struct.unpack_from(f"<{count}H", page, HEADER)
    require(
        min(found) >= upper and max(found) <= len(page) - NODE_BYTES,
        "a page points outside of it",
    )
    return found


def filled(sizes: Iterable[int], upper: int, page_bytes: int) -> None:
    """Refuse a page whose records do not fill it from ``upper`` to its end, one behind the other.

    LMDB moves the others when it removes one, by the size that this one says.

    Args:
        sizes: The bytes of each record's key and data.
        upper: Where the records begin.
        page_bytes: The size of a page.
    """
    total = sum(NODE_BYTES + size + size % 2 for size in sizes)
    require(total == page_bytes - upper, "the records of a page overlap")


def node(page: bytes, at: int) -> tuple[bytes, int, bytes, int]:
    """Key, kind, data and length of the value of a record in a leaf."""
    low, high, kind, key_bytes = _NODE_FORM.unpack_from(page, at)
    size, start = low | high << 16, at + NODE_BYTES + key_bytes
    end = start + (8 if kind & IN_LONG else size)
    require(end <= len(page), "a record reaches outside of its page")
    return page[at + NODE_BYTES : start], kind, page[start:end], size


def child(page: bytes, at: int) -> tuple[bytes, int]:
    """The key of a record in a branch, and the page it leads to."""
    low, high, top, key_bytes = _NODE_FORM.unpack_from(page, at)
    start = at + NODE_BYTES
    require(start + key_bytes <= len(page), "a key reaches outside of its page")
    return page[start : start + key_bytes], low | high << 16 | top << 32


def fixed_keys(page: bytes, pad: int, lower: int, expected: int) -> list[bytes]:
    """The keys of a page of keys of one size."""
    count = (lower - HEADER) // 2
    require(
        pad == expected > 0 and lower % 2 == 0 and count >= 1 and HEADER + count * pad <= len(page),
        "a page of equal keys has other bounds",
    )
    return [page[HEADER + i * pad : HEADER + (i + 1) * pad] for i in range(count)]


def in_order(keys: Sequence[bytes], low: bytes, high: bytes | None, flags: int = 0) -> None:
    """Refuse keys that do not rise from ``low`` to before ``high``."""
    if flags & INTEGER_KEYS:
        keys = [key[::-1] for key in keys]
        low, high = low[::-1], None if high is None else high[::-1]
    require(
        keys[0] >= low and (high is None or keys[-1] < high)
        and all(a < b for a, b in pairwise(keys)),
        "keys are out of order",
    )  # fmt: skip
