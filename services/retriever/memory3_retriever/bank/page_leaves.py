"""Many leaf pages of an LMDB file at once, as arrays: what most of a large bank consists of.

The same checks as ``pages.py`` makes page by page, at a fiftieth of the time. It must not know
trees: it is given pages with the bounds of their keys, and says what it found in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from memory3_retriever.bank.page_layout import (
    HEADER,
    IN_LONG,
    LEAF,
    LONG,
    NODE_BYTES,
    in_order,
    require,
)

Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint16]

# Keys of this length are compared as two numbers, which the keys of references are.
_KEY_BYTES = 16


class Leaf(NamedTuple):
    """A leaf page, and that its keys are from ``low`` to before ``high`` (None: no bound)."""

    number: int
    low: bytes
    high: bytes | None


@dataclass(frozen=True, eq=False)
class Nodes:
    """The records of some leaf pages in order; all arrays have one element per record.

    Attributes:
        first: [num_pages], where the records of each page begin.
        at: Where a record begins in the file, in bytes.
        key_bytes: The length of its key.
        kinds: Its flags.
        sizes: The length of its value.
    """

    first: Numbers
    at: Numbers
    key_bytes: Numbers
    kinds: Numbers
    sizes: Numbers

    def __len__(self) -> int:
        return len(self.at)


class LeafPages:
    """Reads leaf pages of a file.

    Args:
        data: The file's pages, uint8.
        page_bytes: The size of a page.
    """

    def __init__(self, data: npt.NDArray[np.uint8], page_bytes: int) -> None:
        # LMDB puts everything at even addresses.
        self._words: Words = data.view("<u2")
        self._data = data
        self._page_bytes = page_bytes

    def nodes(self, leaves: Sequence[Leaf]) -> Nodes:
        """Their records.

        Raises:
            DamagedPagesError: A page is not what it should be, or points outside of itself.
        """
        numbers = np.array([leaf.number for leaf in leaves], dtype=np.int64)
        starts = numbers * self._page_bytes
        require(bool((self._number(starts) == numbers).all()), "a page is not where it should be")
        flags, lower, upper = (self._word(starts + offset) for offset in (10, 12, 14))
        require(bool((flags == LEAF).all()), "a page is of another kind")
        counts = (lower - HEADER) // 2
        require(
            not (lower % 2).any()
            and bool(((counts >= 1) & (lower <= upper) & (upper <= self._page_bytes)).all()),
            "a page has other bounds",
        )
        first = np.cumsum(counts) - counts
        owner = np.repeat(np.arange(len(numbers)), counts)
        slots = np.arange(len(owner)) - first[owner]
        places = self._word(starts[owner] + HEADER + 2 * slots)
        require(
            bool((places >= upper[owner]).all())
            and bool((places <= self._page_bytes - NODE_BYTES).all())
            and not (places % 2).any(),
            "a page points outside of it",
        )
        at = starts[owner] + places
        sizes = self._word(at) | self._word(at + 2) << 16
        kinds, key_bytes = self._word(at + 4), self._word(at + 6)
        used = NODE_BYTES + key_bytes + np.where(kinds & IN_LONG, 8, sizes)
        require(
            bool((places + used <= self._page_bytes).all()), "a record reaches outside of its page"
        )
        filled = np.add.reduceat(used + used % 2, first)
        require(bool((filled == self._page_bytes - upper).all()), "the records of a page overlap")
        return Nodes(first, at, key_bytes, kinds, sizes)

    def require_order(self, leaves: Sequence[Leaf], nodes: Nodes) -> None:
        """Within each page keys rise, and none lies outside of the page's bounds.

        Raises:
            DamagedPagesError: They do not.
        """
        lows = [leaf.low for leaf in leaves]
        # Only the last page of a database has no bound above it.
        highs = [leaf.high for leaf in leaves if leaf.high is not None]
        lengths = {len(lows[0]) or _KEY_BYTES, *map(len, lows[1:]), *map(len, highs)}
        if lengths != {_KEY_BYTES} or (nodes.key_bytes != _KEY_BYTES).any():
            self._require_order_of_any(leaves, nodes)
            return
        keys = self._halves(nodes.at)
        last = np.append(nodes.first[1:], len(nodes)) - 1
        rising = _less(keys[:-1], keys[1:])
        # Between two pages stands a bound, with which both are compared.
        rising[last[:-1]] = True
        low = _halves_of(lows[0].ljust(_KEY_BYTES, b"\0"), *lows[1:])
        below, high = keys[last][: len(highs)], _halves_of(*highs)
        inside = bool(_less(below, high).all()) and not _less(keys[nodes.first], low).any()
        require(inside and bool(rising.all()), "keys are out of order")

    def long_values(self, nodes: Nodes) -> tuple[Numbers, Numbers]:
        """First pages and numbers of pages of the values that have pages of their own.

        Raises:
            DamagedPagesError: Such a page lies outside of the file, or is none.
        """
        chosen = np.flatnonzero(nodes.kinds == IN_LONG)
        at = nodes.at[chosen] + NODE_BYTES + nodes.key_bytes[chosen]
        raw = self._data[at[:, None] + np.arange(8)]
        first = raw.view("<i8").reshape(-1)
        counts = (HEADER - 1 + nodes.sizes[chosen]) // self._page_bytes + 1
        num_pages = len(self._data) // self._page_bytes
        require(
            bool(((first >= 2) & (first <= num_pages - counts)).all()),
            "a page lies outside of the file",
        )
        # In the order of the file, so that a disk reads ahead.
        order = np.argsort(first)
        first, counts = first[order], counts[order]
        starts = first * self._page_bytes
        stored = self._word(starts + 12) | self._word(starts + 14) << 16
        require(
            bool(
                (
                    (self._number(starts) == first)
                    & (self._word(starts + 10) == LONG)
                    & (stored == counts)
                ).all()
            ),
            "a long value is not where it was",
        )
        return first, counts

    def _require_order_of_any(self, leaves: Sequence[Leaf], nodes: Nodes) -> None:
        starts = (nodes.at + NODE_BYTES).tolist()
        ends = (nodes.at + NODE_BYTES + nodes.key_bytes).tolist()
        data = self._data
        keys = [data[a:b].tobytes() for a, b in zip(starts, ends, strict=True)]
        firsts = [*nodes.first.tolist(), len(nodes)]
        for leaf, start, end in zip(leaves, firsts[:-1], firsts[1:], strict=True):
            in_order(keys[start:end], leaf.low, leaf.high)

    def _word(self, at: Numbers) -> Numbers:
        words: Numbers = self._words[at >> 1].astype(np.int64)
        return words

    def _number(self, at: Numbers) -> Numbers:
        number = self._word(at)
        for place in (1, 2, 3):
            number |= self._word(at + 2 * place) << 16 * place
        return number

    def _halves(self, at: Numbers) -> npt.NDArray[np.uint64]:
        """The keys of records as two big-endian numbers each, [num_records, 2]."""
        words = self._words[((at + NODE_BYTES) >> 1)[:, None] + np.arange(_KEY_BYTES // 2)]
        keys: npt.NDArray[np.uint64] = words.view(">u8").astype(np.uint64)
        return keys


def _halves_of(*keys: bytes) -> npt.NDArray[np.uint64]:
    return np.frombuffer(b"".join(keys), dtype=">u8").reshape(-1, 2).astype(np.uint64)


def _less(a: npt.NDArray[np.uint64], b: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    less: npt.NDArray[np.bool_] = (a[:, 0] < b[:, 0]) | ((a[:, 0] == b[:, 0]) & (a[:, 1] < b[:, 1]))
    return less
