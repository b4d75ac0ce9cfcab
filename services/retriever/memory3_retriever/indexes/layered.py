"""An immutable base and beside it a small exact delta of what came since.

Additions go to the delta, removals of the base are masked. When either grows, or nothing has
changed for some seconds, the next base is built in the background and swapped in at once: searches
and changes go on meanwhile, and what was added or removed during the building is in the new delta
and the new mask. A leaf says what its base is, how it is built, loaded and saved.
"""

from __future__ import annotations

import os
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from memory3.rpc.logging import get_logger
from memory3_retriever.indexes.base import Hit, Index, IndexState, Vectors
from memory3_retriever.indexes.exact import ExactIndex, ExactView
from memory3_retriever.indexes.keys import KeyTable

# So many masked vectors are at most searched in vain before the next base leaves them out.
_MAX_MASKED = 1000
# A bank rests when nothing has changed for so long; then a smaller delta is worth a base.
REST_SECONDS = 5.0
_RESTING_DELTA = 256
# After a fault, such as a full disk.
_RETRY_SECONDS = 60.0
# Building gives way to searching where both want the same processor, and still gets a third of what
# its neighbours get: a base that is never built makes every search slower.
_BACKGROUND_NICENESS = 5

Mask = npt.NDArray[np.bool_]
Stop = Callable[[], bool]

_log = get_logger(__name__)


class BrokenOffError(Exception):
    """Building was asked to stop."""


class Base(Protocol):
    """What a leaf searches; it never changes once it is in use."""

    table: KeyTable

    @property
    def memory_bytes(self) -> int:
        """What it takes of main memory."""
        ...

    def search(self, queries: Vectors, k: int, masked: Mask) -> list[list[Hit]]:
        """The hits of unit queries among the labels that are not masked."""
        ...


@dataclass(frozen=True, eq=False)
class _State:
    """What searches see."""

    base: Base
    masked: Mask  # by label; of tombstones too
    delta: ExactView

    def search(self, queries: Vectors, k: int) -> list[list[Hit]]:
        near = self.base.search(queries, k, self.masked)
        recent = self.delta.search(queries, k)
        return [
            sorted((*a, *b), key=lambda hit: (-hit.score, hit.key))[:k]
            for a, b in zip(near, recent, strict=True)
        ]


class LayeredIndex(Index):
    """A base of one leaf, and its delta.

    Args:
        dimensions: The length of a vector.
        argument: The leaf's parameters.
        folder: Where bases are saved; None saves none.
        delta: Vectors that wait, searched exactly, before a base is built of them.
        empty: A base without vectors.

    Attributes:
        changed_share: To what share of the base delta and masked vectors may grow beyond their
            limits, so that building stays rare as a bank grows.
        resting_share: The same of the delta of a bank that rests.
    """

    changed_share: ClassVar[float]
    resting_share: ClassVar[float]

    def __init__(
        self,
        dimensions: int,
        *,
        argument: str | None,
        folder: Path | None,
        delta: int,
        empty: Base,
    ) -> None:
        super().__init__(dimensions, argument=argument, folder=folder)
        self._max_delta = delta
        self._lock = threading.RLock()
        self._delta = ExactIndex(dimensions)
        self._state = _State(empty, _mask_of(empty), self._delta.view)
        self._saved: Base | None = empty
        self._builder: threading.Thread | None = None
        # What was removed since the building of the next base began.
        self._removed_since: set[bytes] = set()
        self._rests_from = time.monotonic() + REST_SECONDS
        self._closed = threading.Event()

    @abstractmethod
    def _load_base(self, folder: Path) -> Base | None:
        """The newest base that was saved and can be used."""

    @abstractmethod
    def _save_base(self, folder: Path, base: Base) -> None:
        """Save a base durably."""

    @abstractmethod
    def _next_base(
        self, base: Base, masked: Mask, keys: Sequence[bytes], vectors: Vectors, stop: Stop
    ) -> Base:
        """What is left of a base together with the delta's keys and vectors.

        Raises:
            BrokenOffError: ``stop`` said so.
        """

    def keys(self) -> set[bytes]:
        """The keys of all vectors."""
        with self._lock:
            state, recent = self._state, self._delta.keys()
        return recent | {
            state.base.table[label] for label in np.flatnonzero(~state.masked).tolist()
        }

    def holds(self, ordered: npt.NDArray[np.bytes_]) -> bool:
        """Whether the base alone has exactly these keys."""
        with self._lock:
            state, num_recent = self._state, len(self._delta)
        return not num_recent and state.base.table.is_list(ordered, ~state.masked)

    def __contains__(self, key: bytes) -> bool:
        return bool(self._known([key]))

    def __len__(self) -> int:
        with self._lock:
            return len(self._delta) + int(np.count_nonzero(~self._state.masked))

    @property
    def num_in_base(self) -> int:
        """How many vectors are found by way of the base; the others are searched exactly."""
        return int(np.count_nonzero(~self._state.masked))

    def state(self) -> IndexState:
        """Base, delta and what is deleted of the base."""
        with self._lock:
            state, delta = self._state, self._delta.state()
            num_recent, building = len(self._delta), self._builder is not None
        table = state.base.table
        return IndexState(
            num_vectors=table.num_live,
            num_delta=num_recent,
            num_deleted=int(np.count_nonzero(state.masked)) - (len(table) - table.num_live),
            memory_bytes=state.base.memory_bytes + state.masked.nbytes + delta.memory_bytes,
            rebuilding=building,
        )

    def load(self) -> None:
        """Take up the newest saved base that is whole; anything else is left alone."""
        base = self._load_base(self.folder) if self.folder is not None else None
        if base is not None:
            with self._lock:
                self._state = _State(base, _mask_of(base), self._delta.view)
                self._saved = base

    def save(self) -> None:
        """Save the base, if it is not saved yet.

        Raises:
            OSError: The disk failed; what was saved before is intact.
        """
        base = self._state.base
        if self._is_unsaved(base) and self.folder is not None:
            self._save_base(self.folder, base)
            self._saved = base

    def tidy(self) -> None:
        """Build and save in the background what is worth it, if the bank rests."""
        with self._lock:
            if self._builder is None and time.monotonic() >= self._rests_from:
                unsaved = self._is_unsaved(self._state.base)
                self._start_building(resting=True, due=unsaved or self._is_due(resting=True))

    def settle(self) -> None:
        """Wait until no base is being built."""
        while (builder := self._builder) is not None:
            builder.join()

    def close(self) -> None:
        """Break off building."""
        self._closed.set()
        self.settle()

    def _known(self, keys: Sequence[bytes]) -> set[bytes]:
        with self._lock:
            state = self._state
            known = {key for key in keys if key in self._delta}
        labels = state.base.table.labels(keys)
        live = (labels >= 0) & ~state.masked[labels] if len(state.masked) else labels >= 0
        known.update(keys[row] for row in np.flatnonzero(live).tolist())
        return known

    def _add(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        with self._lock:
            self._delta.add(keys, vectors)
            state = self._state
            self._state = _State(state.base, state.masked, self._delta.view)
            self._changed()

    def _remove(self, keys: set[bytes]) -> None:
        with self._lock:
            state = self._state
            masked, labels = state.masked.copy(), state.base.table.labels(sorted(keys))
            masked[labels[labels >= 0]] = True
            self._delta.remove(list(keys))
            self._state = _State(state.base, masked, self._delta.view)
            if self._builder is not None:
                self._removed_since |= keys
            self._changed()

    def _search(self, queries: Vectors, k: int) -> list[list[Hit]]:
        return self._state.search(queries, k)

    def _changed(self) -> None:
        self._rests_from = time.monotonic() + REST_SECONDS
        self._start_building(resting=False, due=self._is_due(resting=False))

    def _start_building(self, *, resting: bool, due: bool) -> None:
        if due and self._builder is None and not self._closed.is_set():
            name = f"{self.name}-build"
            self._builder = threading.Thread(
                target=self._build, args=(resting,), name=name, daemon=True
            )
            self._builder.start()

    def _is_due(self, *, resting: bool) -> bool:
        state = self._state
        table = state.base.table
        num_masked = int(np.count_nonzero(state.masked)) - (len(table) - table.num_live)
        allowed = self.changed_share * len(table)
        max_delta = max(self._max_delta, allowed)
        if resting and len(table):
            max_delta = min(max_delta, max(_RESTING_DELTA, self.resting_share * len(table)))
        due = len(self._delta) >= max_delta or num_masked > max(_MAX_MASKED, allowed)
        return due and not self._closed.is_set()

    def _is_unsaved(self, base: Base) -> bool:
        return self.folder is not None and base is not self._saved and len(base.table) > 0

    def _build(self, resting: bool) -> None:
        give_way()
        try:
            while self._build_next(resting):
                pass
        except BrokenOffError:
            self._builder = None
        except Exception:
            # Searches stay right without a new base: the delta is exact.
            _log.exception("an index could not be built or saved")
            self._rests_from = time.monotonic() + _RETRY_SECONDS
            self._builder = None

    def _build_next(self, resting: bool) -> bool:
        """Build and swap in the next base, if one is due; save it, if that is due.

        Returns:
            Whether there may be more to do; where there is not, the builder has ended.
        """
        with self._lock:
            state, due = self._state, self._is_due(resting=resting)
            keys = sorted(self._delta.keys()) if due else []
            vectors = self._delta.rows_of(keys)
            self._removed_since = set()
        if due:
            base = self._next_base(state.base, state.masked, keys, vectors, self._closed.is_set)
            with self._lock:
                self._swap(base, set(keys))
        self.save()
        if due:
            self.when_rebuilt()
        with self._lock:
            if not self._is_due(resting=resting):
                self._builder = None
                return False
        return True

    def _swap(self, base: Base, taken: set[bytes]) -> None:
        """Search the new base from now on; what changed while it was built goes beside it.

        A key that was removed and added again meanwhile has its new vector in the delta.
        """
        masked, removed = _mask_of(base), self._removed_since
        labels = base.table.labels(sorted(removed))
        masked[labels[labels >= 0]] = True
        recent = self._delta.keys()
        later = sorted(key for key in recent if key not in taken or key in removed)
        delta = ExactIndex(self.dimensions)
        delta.add(later, self._delta.rows_of(later))
        self._delta = delta
        self._state = _State(base, masked, delta.view)


def give_way() -> None:
    """Let other threads of the process go first, from the thread that calls this."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _BACKGROUND_NICENESS)


def _mask_of(base: Base) -> Mask:
    masked = np.ones(len(base.table), dtype=np.bool_)
    masked[base.table.live_labels()] = False
    return masked
