"""The pages of an LMDB file, looked through before LMDB sees them.

LMDB trusts its file: a damaged page can kill the process, hide records, or have pages that are in
use written over. So all that LMDB will trust is checked first: both headers, every tree from its
root to its leaves (branches that lead the wrong way among them), the pages of long values, and the
lists of free pages. No page may be used twice, and every tree must have as many records and pages
as it says. The values of records have checksums of their own and are not read here. It must not
know what the databases hold.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np

from memory3_retriever.bank.page_layout import (
    BRANCH,
    DIRTY,
    DUPLICATE_KEYS,
    DUPLICATES,
    FIXED_SIZE,
    HEADER,
    IN_LONG,
    IN_TREE,
    INTEGER_KEYS,
    LEAF,
    LEAF2,
    LONG,
    MAGIC,
    MAX_DEPTH,
    META,
    META_FORM,
    NO_PAGE,
    PAGE_FORM,
    SUBPAGE,
    DamagedPagesError,
    Tree,
    child,
    filled,
    fixed_keys,
    in_order,
    node,
    places,
    require,
)
from memory3_retriever.bank.page_leaves import Leaf, LeafPages, Numbers

__all__ = ["DamagedPagesError", "check_pages"]

# Leaves that are looked at together; and the fewest for which that is faster than one by one.
_TOGETHER, _FEWEST = 8192, 8

# A record of a leaf: its key, its kind, and its data.
Record = tuple[bytes, int, bytes]


def check_pages(path: Path) -> None:
    """Look through a file that no process has open.

    Raises:
        DamagedPagesError: LMDB must not open it.
        OSError: The disk failed.
    """
    require(path.stat().st_size >= 1024, "it is shorter than its headers")
    with path.open("rb") as file:
        # Let go with the last array that refers to it, which an error may hold for a while.
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    _Check(view).run()


class _Check:
    def __init__(self, view: mmap.mmap) -> None:
        self._view = view
        first = self._header(0, 0)
        self._page_bytes = first[0].pad
        require(
            512 <= self._page_bytes <= 1 << 16 and not self._page_bytes & (self._page_bytes - 1),
            "its pages have an impossible size",
        )
        require(len(view) >= 2 * self._page_bytes, "it is cut short")
        second = self._header(1, self._page_bytes)
        ids = (first[3], second[3])
        # Each change writes the header that the one before did not, so they are one apart.
        require(
            (abs(ids[0] - ids[1]) == 1 and ids[0] % 2 == 0) or ids == (0, 0),
            "its headers do not follow one another",
        )
        self._free, self._main, last_page, _ = first if ids[0] > ids[1] else second
        require(second[0].pad == self._page_bytes, "its headers have different sizes of pages")
        self._num_pages = last_page + 1
        require(self._num_pages * self._page_bytes <= len(view), "it is cut short")
        self._used = np.zeros(self._num_pages, dtype=np.bool_)
        self._used[:2] = True
        data = np.frombuffer(view, dtype=np.uint8, count=self._num_pages * self._page_bytes)
        self._leaf_pages = LeafPages(data, self._page_bytes)
        # Leaves of the tree that is being walked, to be looked at together.
        self._leaves: list[Leaf] = []

    def run(self) -> None:
        """Everything in the file."""
        databases: list[Tree] = []
        require(self._main.flags == 0, "a header has other flags")
        require(self._free.flags == INTEGER_KEYS, "a header has other flags")

        def describe(record: Record) -> None:
            require(record[1] == IN_TREE, "a database is none")
            databases.append(Tree.of(record[2]))

        self._walk(self._main, describe)
        for tree in databases:
            self._walk(tree, None)
        self._free.pad = 0
        self._walk(self._free, lambda record: self._take_free(record[2]))

    def _header(self, number: int, at: int) -> tuple[Tree, Tree, int, int]:
        own, _, flags, _, _ = PAGE_FORM.unpack_from(self._view, at)
        magic, version, _, _, free, main, last, txn = META_FORM.unpack_from(self._view, at + HEADER)
        require((own, flags & META, magic, version) == (number, META, MAGIC, 1), "a header is none")
        require(1 <= last < 1 << 48, "a header has an impossible end")
        return Tree.of(free), Tree.of(main), last, txn

    def _take(self, first: int, count: int = 1) -> None:
        require(first >= 2 and first + count <= self._num_pages, "a page lies outside of the file")
        require(not self._used[first : first + count].any(), "a page is used twice")
        self._used[first : first + count] = True

    def _take_all(self, numbers: Numbers) -> None:
        if not len(numbers):
            return
        require(
            bool(numbers.min() >= 2 and numbers.max() < self._num_pages),
            "a page lies outside of the file",
        )
        ordered = np.sort(numbers)
        require(
            not self._used[numbers].any() and bool((ordered[1:] > ordered[:-1]).all()),
            "a page is used twice",
        )
        self._used[numbers] = True

    def _take_free(self, value: bytes) -> None:
        """Pages that a transaction gave back: LMDB writes to them next."""
        numbers = np.frombuffer(value[: len(value) // 8 * 8], dtype="<i8")
        count = int(numbers[0]) if len(numbers) else -1
        require(0 <= count < len(numbers), "a list of free pages has another length")
        listed = numbers[1 : count + 1]
        require(bool((listed[1:] <= listed[:-1]).all()), "free pages are out of order")
        self._take_all(listed)

    def _walk(self, tree: Tree, each: Callable[[Record], None] | None) -> None:
        if tree.root == NO_PAGE:
            require(tree.depth == tree.num_entries == 0, "an empty database counts records")
            return
        require(1 <= tree.depth <= MAX_DEPTH, "a database has an impossible depth")
        found = Tree(tree.pad, tree.flags, tree.depth, 0, 0, 0, 0, tree.root)
        plain = each is None and not tree.flags & (INTEGER_KEYS | FIXED_SIZE)
        together = plain and tree.depth > 1 and tree.num_leaves >= _FEWEST
        self._visit(tree.root, tree.depth, b"", None, found, each, together)
        self._flush(found)
        if tree.flags & (DUPLICATE_KEYS | FIXED_SIZE):
            # LMDB loses count of the pages where a key's values move into a tree of their own.
            found.num_branches, found.num_leaves = tree.num_branches, tree.num_leaves
            found.num_long = tree.num_long
        require(found == tree, "a database has not as many records or pages as it says")

    def _visit(
        self,
        number: int,
        depth: int,
        low: bytes,
        high: bytes | None,
        found: Tree,
        each: Callable[[Record], None] | None,
        together: bool,
    ) -> None:
        """A page and all below it; its keys are from ``low`` to before ``high``."""
        self._take(number)
        at = number * self._page_bytes
        page = self._view[at : at + self._page_bytes]
        own, pad, flags, lower, upper = PAGE_FORM.unpack_from(page)
        require(own == number, "a page is not the one that it should be")
        if depth == 1 and flags == LEAF | LEAF2:
            keys = fixed_keys(page, pad, lower, found.pad)
            in_order(keys, low, high, found.flags)
            found.num_leaves += 1
            found.num_entries += len(keys)
            return
        require(flags == (LEAF if depth == 1 else BRANCH), "a page is of another kind")
        at_each = places(page, lower, upper)
        if depth == 1:
            records = [node(page, place) for place in at_each]
            filled((len(key) + len(data) for key, _, data, _ in records), upper, len(page))
            in_order([key for key, _, _, _ in records], low, high, found.flags)
            found.num_leaves += 1
            for key, kind, data, size in records:
                self._record(key, kind, data, size, found, each)
            return
        found.num_branches += 1
        children = [child(page, place) for place in at_each]
        filled((len(key) for key, _ in children), upper, len(page))
        # LMDB leaves the first key of a branch empty: what is above it says the bound.
        bounds = [low, *(key for key, _ in children[1:])]
        in_order(bounds, low, high, found.flags)
        below = zip((page for _, page in children), bounds, [*bounds[1:], high], strict=True)
        if depth == 2 and together:
            self._leaves.extend(map(Leaf._make, below))
            if len(self._leaves) >= _TOGETHER:
                self._flush(found)
            return
        for number, start, end in below:
            self._visit(number, depth - 1, start, end, found, each, together)

    def _flush(self, found: Tree) -> None:
        """Look at the leaves that were put off."""
        leaves, self._leaves = self._leaves, []
        if not leaves:
            return
        self._take_all(np.array([leaf.number for leaf in leaves], dtype=np.int64))
        nodes = self._leaf_pages.nodes(leaves)
        self._leaf_pages.require_order(leaves, nodes)
        first, counts = self._leaf_pages.long_values(nodes)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        self._take_all(np.repeat(first, counts) + within)
        found.num_leaves += len(leaves)
        found.num_long += int(counts.sum())
        found.num_entries += int(np.count_nonzero(nodes.kinds <= IN_LONG))
        for row in np.flatnonzero(nodes.kinds > IN_LONG).tolist():
            start = int(nodes.at[row])
            page_at = start % self._page_bytes
            page = self._view[start - page_at : start - page_at + self._page_bytes]
            self._record(*node(page, page_at), found, None)

    def _record(
        self,
        key: bytes,
        kind: int,
        data: bytes,
        size: int,
        found: Tree,
        each: Callable[[Record], None] | None,
    ) -> None:
        if kind == IN_LONG:
            found.num_long += self._long(int.from_bytes(data, "little"), size)
            if each is not None:
                start = int.from_bytes(data, "little") * self._page_bytes + HEADER
                data = self._view[start : start + size]
        if kind == DUPLICATES | IN_TREE:
            tree = Tree.of(data)
            self._walk(tree, None)
            found.num_entries += tree.num_entries
        elif kind == DUPLICATES:
            require(len(data) >= HEADER, "a list of equal keys is cut short")
            _, pad, flags, lower, _ = PAGE_FORM.unpack_from(data)
            kinds = LEAF | LEAF2 | SUBPAGE
            require(flags & ~DIRTY == kinds, "a list of equal keys is none")
            values = fixed_keys(data, pad, lower, pad)
            in_order(values, b"", None)
            found.num_entries += len(values)
        else:
            require(kind in (0, IN_LONG, IN_TREE), "a record is of an unknown kind")
            require(kind != IN_TREE or each is not None, "a record is of another kind")
            found.num_entries += 1
        if each is not None:
            each((key, kind, data))

    def _long(self, first: int, size: int) -> int:
        count = (HEADER - 1 + size) // self._page_bytes + 1
        self._take(first, count)
        at = first * self._page_bytes
        own, _, flags, low, high = PAGE_FORM.unpack_from(self._view, at)
        stored = low | high << 16
        require((own, flags, stored) == (first, LONG, count), "a long value is not where it was")
        return count
