"""The records of an LMDB file that LMDB must not open, read page by page.

For mending alone. Keys may be in any order, as damaged keys are; everything else has to agree, so
that nothing is left out in silence: headers, counts of records and pages, pages used once and not
free. It must not know what the databases hold.
"""

from __future__ import annotations

import contextlib
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
        # It shows where a header leads to an older state; itself damaged, it takes no record along.
        with contextlib.suppress(DamagedPagesError):
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
        """The records of a tree, which are of one kind, or long values."""
        if tree.root == NO_PAGE:
            require(tree.depth == tree.num_entries == 0, "an empty database counts records")
            return
        claims = self._look(tree)
        for key, own_kind, data, size in self._visit(tree.root, tree.depth, _empty(tree), set()):
            if own_kind == IN_LONG:
                numbers = self._long_pages(data, size)
                # Whose a page is that two lay claim to, nobody can tell.
                mine = all(claims[each] == 1 for each in numbers)
                yield key, self._long(numbers, size) if mine else b""
            else:
                require(own_kind == kind or not kind, "a record is of another kind")
                yield key, data if own_kind == kind else b""

    def _look(self, tree: Tree) -> bytearray:
        """Walk a tree once before anything of it is given out; how often each page is used."""
        require(1 <= tree.depth <= MAX_DEPTH, "a database has an impossible depth")
        claims = bytearray(len(self._view) // self._page_bytes)
        found, taken = _empty(tree), set[int]()
        for _, own_kind, data, size in self._visit(tree.root, tree.depth, found, taken):
            if own_kind == IN_LONG:
                for number in self._long_pages(data, size):
                    claims[number] = min(2, claims[number] + 1)
        require(found == tree, "a database has not as many records or pages as it says")
        for number in taken:
            claims[number] = 2
        return claims

    def _visit(
        self, number: int, depth: int, found: Tree, taken: set[int]
    ) -> Iterator[tuple[bytes, int, bytes, int]]:
        """Key, kind, data and length of the value of each record; of a damaged one only the key."""
        self._take(number, taken)
        at = number * self._page_bytes
        page = self._view[at : at + self._page_bytes]
        own, _, flags, lower, upper = PAGE_FORM.unpack_from(page)
        require(own == number, "a page is not the one that it should be")
        require(flags == (LEAF if depth == 1 else BRANCH), "a page is of another kind")
        if depth > 1:
            found.num_branches += 1
            for place in places(page, lower, upper):
                yield from self._visit(child(page, place)[1], depth - 1, found, taken)
            return
        found.num_leaves += 1
        for place in places(page, lower, upper):
            found.num_entries += 1
            try:
                yield node(page, place)
            except DamagedPagesError:
                yield child(page, place)[0], 0, b"", 0

    def _take(self, number: int, taken: set[int]) -> None:
        end = (number + 1) * self._page_bytes
        require(number >= 2 and end <= len(self._view), "a page lies outside of the file")
        require(number not in taken and number not in self._free, "a page is used twice")
        taken.add(number)

    def _long_pages(self, data: bytes, size: int) -> range:
        """The pages of a long value; none where they cannot be that."""
        first = int.from_bytes(data, "little")
        numbers = range(first, first + (HEADER - 1 + size) // self._page_bytes + 1)
        if first < 2 or numbers.stop * self._page_bytes > len(self._view):
            return range(0)
        return numbers

    def _long(self, numbers: range, size: int) -> bytes:
        """A long value; empty where it is not what it should be, which its checksum tells."""
        if not numbers or not self._free.isdisjoint(numbers):
            return b""
        at = numbers.start * self._page_bytes
        own, _, flags, low, high = PAGE_FORM.unpack_from(self._view, at)
        if (own, flags, low | high << 16) != (numbers.start, LONG, len(numbers)):
            return b""
        return self._view[at + HEADER : at + HEADER + size]


def _empty(tree: Tree) -> Tree:
    """A tree of which nothing was counted yet; but for long values, which may be damaged."""
    return Tree(tree.pad, tree.flags, tree.depth, 0, 0, tree.num_long, 0, tree.root)
