"""Searching only some of a bank's references, as quickly and as well as all of them.

Where few are let through, they are compared one by one, exactly. Where many are, the index is asked
for as many more as will do; a query for which that was not enough is answered exactly. What was
made for a filter is kept until the bank changes, since filters are asked again and again. It must
not know the wire.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from memory3_retriever.bank.filters import Filter
from memory3_retriever.bank.matching import Matches
from memory3_retriever.bank.records import Vectors
from memory3_retriever.bank.store import BankStore
from memory3_retriever.indexes.base import Hit, Index
from memory3_retriever.indexes.exact import ExactIndex

# So many are compared one by one without asking the index.
EXACT_REFERENCES = 4096
# Before so many are, the index is asked once more, for all that it gives in that time.
MANY_REFERENCES = 16_384
# More hits than this take an index longer than comparing does.
_MAX_ASKED = 4096
# The index is asked for so many times what would do if hits were spread evenly.
_MARGIN = 2
_EXTRA = 16
# What is kept for filters, in bytes and in number.
_KEPT_BYTES = 128 << 20
_KEPT_FILTERS = 64
_BLOCK = 4096
# So many references more or less never make an index worth making anew.
_FEW = 64


class _Selection:
    """A filter's references at one revision, and an index of them alone once it was needed."""

    def __init__(self, generation: int, revision: int, matches: Matches) -> None:
        self.generation = generation
        self.revision = revision
        self.matches = matches
        self.exact: ExactIndex | None = None

    @property
    def num_bytes(self) -> int:
        exact = 0 if self.exact is None else self.exact.view.vectors.nbytes
        return self.matches.keys.nbytes + exact


class SelectiveSearch:
    """Searches one bank.

    Args:
        store: The bank on disk.
        index: The index over all of it.
    """

    def __init__(self, store: BankStore, index: Index) -> None:
        self._store = store
        self._index = index
        self._lock = threading.Lock()
        self._kept: OrderedDict[Filter, _Selection] = OrderedDict()
        self._generation = 0

    def forget(self) -> None:
        """Keep nothing that was made before now: references have other vectors."""
        with self._lock:
            self._generation += 1
            self._kept.clear()

    def search(self, queries: Vectors, k: int, where: Filter) -> list[list[Hit]]:
        """The nearest references of each query that the filter lets through and that live."""
        if not where:
            return self._ask(queries, k, None, k + _EXTRA)
        selection = self._selection(where)
        num_matching = len(selection.matches)
        if not num_matching:
            return [[] for _ in queries]
        share = num_matching / max(1, len(self._index))
        asked = math.ceil(_MARGIN * k / share) + _EXTRA
        if num_matching <= EXACT_REFERENCES or asked > _MAX_ASKED:
            return self._compare(queries, k, selection)
        hits = self._ask(queries, k, selection.matches, asked)
        wanted = min(k, num_matching)
        if num_matching > MANY_REFERENCES and (short := _short(hits, wanted)):
            again = self._ask(queries[short], k, selection.matches, _MAX_ASKED)
            hits = _with(hits, short, again)
        if short := _short(hits, wanted):
            hits = _with(hits, short, self._compare(queries[short], k, selection))
        return hits

    def _ask(
        self, queries: Vectors, k: int, matches: Matches | None, asked: int
    ) -> list[list[Hit]]:
        """Ask the index; once for some of the references, until it has no more for all."""
        while True:
            found = self._index.search(queries, asked)
            hits = [self._accepted(each, k, matches) for each in found]
            is_short = any(
                len(some) < k and len(all_) == asked for some, all_ in zip(hits, found, strict=True)
            )
            if matches is not None or not is_short:
                return hits
            asked *= 4

    def _compare(self, queries: Vectors, k: int, selection: _Selection) -> list[list[Hit]]:
        """Exactly; what has expired is asked for in vain, so as many more are asked for."""
        exact = self._exact(selection)
        asked = k
        while True:
            found = exact.search(queries, asked)
            hits = [self._accepted(each, k, None) for each in found]
            if all(
                len(some) == k or len(all_) < asked for some, all_ in zip(hits, found, strict=True)
            ):
                return hits
            asked *= 4

    def _accepted(self, found: Sequence[Hit], k: int, matches: Matches | None) -> list[Hit]:
        if matches is not None:
            passes = matches.has([hit.key for hit in found])
            found = [found[place] for place in np.flatnonzero(passes)[: 2 * k]]
        live = self._store.existing(hit.key for hit in found)
        return [hit for hit in found if hit.key in live][:k]

    def _exact(self, selection: _Selection) -> ExactIndex:
        if selection.exact is None:
            index = ExactIndex(self._store.info.embedder.dimensions)
            keys = selection.matches.listed(self._store.vector_keys)
            for start in range(0, len(keys), _BLOCK):
                index.add(*self._store.present_vectors(keys[start : start + _BLOCK]))
            selection.exact = index
            self._forget_surplus()
            return index
        return selection.exact

    def _selection(self, where: Filter) -> _Selection:
        with self._lock:
            generation, kept = self._generation, self._kept.get(where)
            if kept is not None and kept.revision == self._store.counters().revision:
                self._kept.move_to_end(where)
                return kept
            made = _Selection(generation, *self._store.matching(where))
            if kept is not None:
                self._carry_over(kept, made)
            self._kept[where] = made
            self._kept.move_to_end(where)
        self._forget_surplus()
        return made

    def _carry_over(self, old: _Selection, new: _Selection) -> None:
        """Take the index of a filter's references along, where few of them are others now."""
        exact, was, now = old.exact, old.matches, new.matches
        if exact is None or old.generation != new.generation or now.is_inverted:
            return
        fresh, gone = now.without(was), was.without(now)
        if len(fresh) + len(gone) <= max(_FEW, len(now) // 4):
            exact.add(*self._store.present_vectors(fresh))
            exact.remove(gone)
            new.exact = exact

    def _forget_surplus(self) -> None:
        with self._lock:
            while self._kept and (
                len(self._kept) > _KEPT_FILTERS
                or sum(each.num_bytes for each in self._kept.values()) > _KEPT_BYTES
            ):
                self._kept.popitem(last=False)


def _short(hits: Sequence[Sequence[Hit]], wanted: int) -> list[int]:
    """The places of queries with fewer hits than there are to be had."""
    return [place for place, found in enumerate(hits) if len(found) < wanted]


def _with(
    hits: Sequence[list[Hit]], places: Sequence[int], others: Sequence[list[Hit]]
) -> list[list[Hit]]:
    """The hits, with others in these places."""
    found = dict(zip(places, others, strict=True))
    return [found.get(place, before) for place, before in enumerate(hits)]
