"""The records of an LMDB file that LMDB must not open, read page by page.

For mending alone. Keys may be in any order, as damaged keys are; everything else has to agree, so
that nothing is left out in silence: headers, counts of records and pages, pages used once and not
free. It must not know what the databases hold.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from memory3_retriever.bank.page_layout import (
    BRANCH,
    HEADER,
    IN_LONG,
    IN_TREE,
    LEAF,
    LONG,
    MAGIC,
    MAX_DEPTH,
    META,
    META_FORM,
    NO_PAGE,
    PAGE_FORM,
    DamagedPagesError,
    Tree,
    child,
    node,
    places,
    require,
)

__all__ = ["DamagedPagesError", "RawRecords"]

_Header = tuple[Tree, Tree, int]


class RawRecords:
    """Reads a file that no process has open.

    Args:
        path: The file.

    Raises:
        DamagedPagesError: Its pages cannot be read.
        OSError: The disk failed.
    """

    def __init__(self, path: Path) -> None:
        require(path.stat().st_size >= 1024, "it is shorter than its headers")
        with path.open("rb") as file:
            self._view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        first = self._header(0, 0)
        self._page_bytes = first[0].pad
        size = self._page_bytes
        require(512 <= size <= 1 << 16 and not size & (size - 1), "its pages have another size")
        require(len(self._view) >= 2 * size, "it is cut short")
        second = self._header(1, size)
        ids = (first[2], second[2])
        # Of a header that is damaged it cannot be told whether it was the newer one.
        require(
            (abs(ids[0] - ids[1]) == 1 and ids[0] % 2 == 0) or ids == (0, 0),
            "its headers do not follow one another",
        )
        free, main, _ = first if ids[0] > ids[1] else second
        self._free: set[int] = set()
        self._free = self._free_pages(free)
        self._trees = {name: Tree.of(data) for name, data in self._walk(main, IN_TREE)}

    def records(self, database: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of a database without equal keys.

        Raises:
            DamagedPagesError: Not all of it can be read; told at the end at the latest.
        """
        require(database in self._trees, f"it has no {database.decode()}")
        yield from self._walk(self._trees[database], 0)

    def close(self) -> None:
        """Let go of the file."""
        self._view.close()

    def _header(self, number: int, at: int) -> _Header:
        own, _, flags, _, _ = PAGE_FORM.unpack_from(self._view, at)
        magic, version, _, _, free, main, _, txn = META_FORM.unpack_from(self._view, at + HEADER)
        require((own, flags & META, magic, version) == (number, META, MAGIC, 1), "a header is none")
        return Tree.of(free), Tree.of(main), txn

    def _free_pages(self, tree: Tree) -> set[int]:
        tree.pad = 0
        found: set[int] = set()
        for _, value in self._walk(tree, 0):
            numbers = struct.unpack_from(f"<{len(value) // 8}Q", value)
            require(
                bool(numbers) and numbers[0] < len(numbers), "a list of free pages is cut short"
            )
            found.update(numbers[1 : numbers[0] + 1])
        return found

    def _walk(self, tree: Tree, kind: int) -> Iterator[tuple[bytes, bytes]]:
        """The records of a tree, which may be of one kind, or long values."""
        found = Tree(tree.pad, tree.flags, tree.depth, 0, 0, 0, 0, tree.root)
        if tree.root != NO_PAGE:
            require(1 <= tree.depth <= MAX_DEPTH, "a database has an impossible depth")
            yield from self._visit(tree.root, tree.depth, kind, found, set())
        require(found == tree, "a database has not as many records or pages as it says")

    def _visit(
        self, number: int, depth: int, kind: int, found: Tree, taken: set[int]
    ) -> Iterator[tuple[bytes, bytes]]:
        self._take(number, 1, taken)
        at = number * self._page_bytes
        page = self._view[at : at + self._page_bytes]
        own, _, flags, lower, upper = PAGE_FORM.unpack_from(page)
        require(own == number, "a page is not the one that it should be")
        require(flags == (LEAF if depth == 1 else BRANCH), "a page is of another kind")
        if depth > 1:
            found.num_branches += 1
            for place in places(page, lower, upper):
                yield from self._visit(child(page, place)[1], depth - 1, kind, found, taken)
            return
        found.num_leaves += 1
        for place in places(page, lower, upper):
            key, own_kind, data, size = node(page, place)
            require(own_kind in (kind, IN_LONG), "a record is of another kind")
            found.num_entries += 1
            if own_kind == IN_LONG:
                data = self._long(int.from_bytes(data, "little"), size, found, taken)
            yield key, data

    def _take(self, first: int, count: int, taken: set[int]) -> None:
        end = (first + count) * self._page_bytes
        require(first >= 2 and end <= len(self._view), "a page lies outside of the file")
        numbers = set(range(first, first + count))
        require(
            numbers.isdisjoint(taken) and numbers.isdisjoint(self._free), "a page is used twice"
        )
        taken |= numbers

    def _long(self, first: int, size: int, found: Tree, taken: set[int]) -> bytes:
        count = (HEADER - 1 + size) // self._page_bytes + 1
        self._take(first, count, taken)
        at = first * self._page_bytes
        own, _, flags, low, high = PAGE_FORM.unpack_from(self._view, at)
        require(
            (own, flags, low | high << 16) == (first, LONG, count),
            "a long value is not where it was",
        )
        found.num_long += count
        return self._view[at + HEADER : at + HEADER + size]
