"""The pages of an LMDB file, looked through before LMDB sees them.

LMDB trusts its file: a damaged page can kill the process, hide records, or have pages that are in
use written over. So all that LMDB will trust is checked first, in the layout that LMDB 0.9 writes
on 64-bit machines: both headers, every tree from its root to its leaves (branches that lead the
wrong way among them), the pages of long values, and the lists of free pages. No page may be used
twice, and every tree must have as many records and pages as it says. The values of records have
checksums of their own and are not read here. It must not know what the databases hold.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_MAGIC = 0xBEEFC0DE
_BRANCH, _LEAF, _LONG, _META, _DIRTY, _LEAF2, _SUBPAGE = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40
_IN_LONG, _IN_TREE, _DUPLICATES = 0x01, 0x02, 0x04
_NO_PAGE = (1 << 64) - 1
_HEADER = 16
_PAGE = struct.Struct("<QHHHH")
_NODE = struct.Struct("<HHHH")
_META_FORM = struct.Struct("<IIQQ48s48sQQ")
_TREE_FORM = struct.Struct("<IHHQQQQQ")
_MAX_DEPTH = 32
_DUPLICATE_KEYS, _INTEGER_KEYS, _FIXED_SIZE = 0x04, 0x08, 0x10

# A node of a leaf: its key, its flags, and its data.
Node = tuple[bytes, int, bytes]


class DamagedPagesError(ValueError):
    """The file contradicts itself; the text says where."""


@dataclass(slots=True)
class _Tree:
    pad: int
    flags: int
    depth: int
    num_branches: int
    num_leaves: int
    num_long: int
    num_entries: int
    root: int

    @classmethod
    def of(cls, data: bytes) -> _Tree:
        _require(len(data) == _TREE_FORM.size, "the description of a database has another length")
        return cls(*_TREE_FORM.unpack(data))


def check_pages(path: Path) -> None:
    """Look through a file that no process has open.

    Raises:
        DamagedPagesError: LMDB must not open it.
        OSError: The disk failed.
    """
    _require(path.stat().st_size >= 1024, "it is shorter than its headers")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        _Check(view).run()


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DamagedPagesError(otherwise)


class _Check:
    def __init__(self, view: mmap.mmap) -> None:
        self._view = view
        first = self._header(0, 0)
        self._page_bytes = first[0].pad
        _require(
            512 <= self._page_bytes <= 1 << 16 and not self._page_bytes & (self._page_bytes - 1),
            "its pages have an impossible size",
        )
        _require(len(view) >= 2 * self._page_bytes, "it is cut short")
        second = self._header(1, self._page_bytes)
        ids = (first[3], second[3])
        # Each change writes the header that the one before did not, so they are one apart.
        _require(
            (abs(ids[0] - ids[1]) == 1 and ids[0] % 2 == 0) or ids == (0, 0),
            "its headers do not follow one another",
        )
        self._free, self._main, last_page, _ = first if ids[0] > ids[1] else second
        _require(second[0].pad == self._page_bytes, "its headers have different sizes of pages")
        self._num_pages = last_page + 1
        _require(self._num_pages * self._page_bytes <= len(view), "it is cut short")
        self._used = bytearray(self._num_pages)
        self._used[:2] = b"\1\1"

    def run(self) -> None:
        """Everything in the file."""
        databases: list[_Tree] = []
        _require(self._main.flags == 0, "a header has other flags")
        _require(self._free.flags == _INTEGER_KEYS, "a header has other flags")

        def describe(node: Node) -> None:
            _require(node[1] == _IN_TREE, "a database is none")
            databases.append(_Tree.of(node[2]))

        self._walk(self._main, describe)
        for tree in databases:
            self._walk(tree, None)
        self._free.pad = 0
        self._walk(self._free, lambda node: self._take_free(node[2]))

    def _header(self, number: int, at: int) -> tuple[_Tree, _Tree, int, int]:
        own, _, flags, _, _ = _PAGE.unpack_from(self._view, at)
        magic, version, _, _, free, main, last, txn = _META_FORM.unpack_from(
            self._view, at + _HEADER
        )
        _require(
            (own, flags & _META, magic, version) == (number, _META, _MAGIC, 1), "a header is none"
        )
        _require(1 <= last < 1 << 48, "a header has an impossible end")
        return _Tree.of(free), _Tree.of(main), last, txn

    def _take(self, first: int, count: int = 1) -> None:
        _require(first >= 2 and first + count <= self._num_pages, "a page lies outside of the file")
        _require(not any(self._used[first : first + count]), "a page is used twice")
        self._used[first : first + count] = b"\1" * count

    def _take_free(self, value: bytes) -> None:
        """Pages that a transaction gave back: LMDB writes to them next."""
        numbers = struct.unpack_from(f"<{len(value) // 8}Q", value)
        count = numbers[0] if numbers else -1
        _require(0 <= count < len(numbers), "a list of free pages has another length")
        listed = numbers[1 : count + 1]
        _require(list(listed) == sorted(listed, reverse=True), "free pages are out of order")
        for number in listed:
            self._take(number)

    def _walk(self, tree: _Tree, each: Callable[[Node], None] | None) -> None:
        if tree.root == _NO_PAGE:
            _require(tree.depth == tree.num_entries == 0, "an empty database counts records")
            return
        _require(1 <= tree.depth <= _MAX_DEPTH, "a database has an impossible depth")
        found = _Tree(tree.pad, tree.flags, tree.depth, 0, 0, 0, 0, tree.root)
        self._visit(tree.root, tree.depth, b"", None, found, each)
        if tree.flags & (_DUPLICATE_KEYS | _FIXED_SIZE):
            # LMDB loses count of the pages where a key's values move into a tree of their own.
            found.num_branches, found.num_leaves = tree.num_branches, tree.num_leaves
            found.num_long = tree.num_long
        _require(found == tree, "a database has not as many records or pages as it says")

    def _visit(
        self,
        number: int,
        depth: int,
        low: bytes,
        high: bytes | None,
        found: _Tree,
        each: Callable[[Node], None] | None,
    ) -> None:
        """A page and all below it; its keys are from ``low`` to before ``high``."""
        self._take(number)
        at = number * self._page_bytes
        page = self._view[at : at + self._page_bytes]
        own, pad, flags, lower, upper = _PAGE.unpack_from(page)
        _require(own == number, "a page is not the one that it should be")
        if depth == 1 and flags == _LEAF | _LEAF2:
            keys = _fixed(page, pad, lower, found.pad)
            _in_order(keys, low, high, found.flags)
            found.num_leaves += 1
            found.num_entries += len(keys)
            return
        _require(flags == (_LEAF if depth == 1 else _BRANCH), "a page is of another kind")
        places = _places(page, lower, upper)
        if depth == 1:
            nodes = [self._node(page, place) for place in places]
            _in_order([key for key, _, _, _ in nodes], low, high, found.flags)
            found.num_leaves += 1
            for key, kind, data, size in nodes:
                self._entry(key, kind, data, size, found, each)
            return
        found.num_branches += 1
        children = [_child(page, place) for place in places]
        # LMDB leaves the first key of a branch empty: what is above it says the bound.
        bounds = [low, *(key for key, _ in children[1:])]
        _in_order(bounds, low, high, found.flags)
        for (_, child), start, end in zip(children, bounds, [*bounds[1:], high], strict=True):
            self._visit(child, depth - 1, start, end, found, each)

    def _entry(
        self,
        key: bytes,
        kind: int,
        data: bytes,
        size: int,
        found: _Tree,
        each: Callable[[Node], None] | None,
    ) -> None:
        if kind == _IN_LONG:
            found.num_long += self._long(int.from_bytes(data, "little"), size)
            if each is not None:
                start = int.from_bytes(data, "little") * self._page_bytes + _HEADER
                data = self._view[start : start + size]
        if kind == _DUPLICATES | _IN_TREE:
            tree = _Tree.of(data)
            self._walk(tree, None)
            found.num_entries += tree.num_entries
        elif kind == _DUPLICATES:
            _require(len(data) >= _HEADER, "a list of equal keys is cut short")
            _, pad, flags, lower, _ = _PAGE.unpack_from(data)
            kinds = _LEAF | _LEAF2 | _SUBPAGE
            _require(flags & ~_DIRTY == kinds, "a list of equal keys is none")
            values = _fixed(data, pad, lower, pad)
            _in_order(values, b"", None, 0)
            found.num_entries += len(values)
        else:
            _require(kind in (0, _IN_LONG, _IN_TREE), "a record is of an unknown kind")
            _require(kind != _IN_TREE or each is not None, "a record is of another kind")
            found.num_entries += 1
        if each is not None:
            each((key, kind, data))

    def _long(self, first: int, size: int) -> int:
        count = (_HEADER - 1 + size) // self._page_bytes + 1
        self._take(first, count)
        at = first * self._page_bytes
        own, _, flags = struct.unpack_from("<QHH", self._view, at)
        (stored,) = struct.unpack_from("<I", self._view, at + 12)
        _require((own, flags, stored) == (first, _LONG, count), "a long value is not where it was")
        return count

    def _node(self, page: bytes, at: int) -> tuple[bytes, int, bytes, int]:
        low, high, kind, key_bytes = _NODE.unpack_from(page, at)
        size, start = low | high << 16, at + 8 + key_bytes
        end = start + (8 if kind & _IN_LONG else size)
        _require(end <= len(page), "a record reaches outside of its page")
        return page[at + 8 : start], kind, page[start:end], size


def _places(page: bytes, lower: int, upper: int) -> tuple[int, ...]:
    count = (lower - _HEADER) // 2
    _require(
        lower % 2 == 0 and count >= 1 and lower <= upper <= len(page), "a page has other bounds"
    )
    places = struct.unpack_from(f"<{count}H", page, _HEADER)
    _require(min(places) >= upper and max(places) <= len(page) - 8, "a page points outside of it")
    return places


def _child(page: bytes, at: int) -> tuple[bytes, int]:
    low, high, top, key_bytes = _NODE.unpack_from(page, at)
    _require(at + 8 + key_bytes <= len(page), "a key reaches outside of its page")
    return page[at + 8 : at + 8 + key_bytes], low | high << 16 | top << 32


def _fixed(page: bytes, pad: int, lower: int, expected: int) -> list[bytes]:
    """The keys of a page of keys of one size."""
    count = (lower - _HEADER) // 2
    _require(
        pad == expected > 0
        and lower % 2 == 0
        and count >= 1
        and _HEADER + count * pad <= len(page),
        "a page of equal keys has other bounds",
    )
    return [page[_HEADER + i * pad : _HEADER + (i + 1) * pad] for i in range(count)]


def _in_order(keys: list[bytes], low: bytes, high: bytes | None, flags: int) -> None:
    if flags & _INTEGER_KEYS:
        keys = [key[::-1] for key in keys]
        low, high = low[::-1], None if high is None else high[::-1]
    _require(
        keys[0] >= low and (high is None or keys[-1] < high)
        and all(a < b for a, b in pairwise(keys)),
        "keys are out of order",
    )  # fmt: skip
