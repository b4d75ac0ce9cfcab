"""How much of the truth an index finds: a sample of the bank's own vectors, searched both ways.

The exact side reads every vector once, a block at a time with pauses between, so that a bank larger
than memory can be measured while it is used. Where too little is found, the index is told to search
harder. It must not know how any index works.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from memory3.errors import CorruptDataError
from memory3.rpc.logging import get_logger
from memory3_retriever.bank.ledger import VECTORS
from memory3_retriever.bank.records import Vectors, vector_from_bytes, vectors_from_bytes
from memory3_retriever.bank.store import BankStore
from memory3_retriever.indexes.base import Index, unit_rows
from memory3_retriever.indexes.layered import give_way

K = 5
WANTED = 0.99
NUM_SAMPLED = 200
PERIOD_S = 3600.0
# An index that has grown or shrunk by less since it was measured is not measured again so soon.
_CHANGED_SHARE = 0.05
_BLOCK = 2048
_KEY = np.dtype("V16")
# Scores this near are equal: both sides compute them in float32, in another order.
_EQUAL = 1e-5

_log = get_logger(__name__)


class BrokenOffError(Exception):
    """Measuring was asked to stop."""


@dataclass(frozen=True, slots=True)
class Recall:
    """The share of true neighbours among the first five found, and how many were sampled."""

    share: float
    num_sampled: int


@dataclass(frozen=True, eq=False)
class Truth:
    """Vectors of the bank and the nearest others of each.

    Attributes:
        keys: The sampled keys.
        vectors: [len(keys), dimensions], unit rows.
        nearest: For each, at most ``K`` other keys with their cosines, best first.
    """

    keys: list[bytes]
    vectors: Vectors
    nearest: list[list[tuple[bytes, float]]]


def true_neighbours(
    store: BankStore, num_sampled: int, seed: int, pause: Callable[[float], None]
) -> Truth:
    """Sample a bank and search the sample exactly.

    Args:
        store: An open bank; reads and writes may go on meanwhile.
        num_sampled: How many vectors, at most.
        seed: Of the sample.
        pause: Called after each block with the seconds it took.
    """
    sample = dict(_sampled(store, num_sampled, seed))
    keys = list(sample)
    vectors = unit_rows(np.stack([sample[key] for key in keys])) if keys else np.empty((0, 0))
    row_by_key = {key: row for row, key in enumerate(keys)}
    scores = np.full((len(keys), K), -np.inf, dtype=np.float32)
    names = np.zeros((len(keys), K), dtype=_KEY)
    started = time.perf_counter()
    for block_keys, block in _blocks(store) if keys else ():
        near = vectors @ unit_rows(block).T
        for column in [n for n, key in enumerate(block_keys) if key in row_by_key]:
            near[row_by_key[block_keys[column]], column] = -np.inf
        block_names = np.broadcast_to(np.frombuffer(b"".join(block_keys), _KEY), near.shape)
        scores, names = _best(
            np.concatenate([scores, near], axis=1), np.concatenate([names, block_names], axis=1)
        )
        pause(time.perf_counter() - started)
        started = time.perf_counter()
    found = [
        [(name.tobytes(), score) for name, score in zip(*row, strict=True) if np.isfinite(score)]
        for row in zip(names, scores.tolist(), strict=True)
    ]
    return Truth(keys, np.asarray(vectors, dtype=np.float32), found)


def recall_of(index: Index, truth: Truth) -> Recall | None:
    """What an index finds of the truth; None if nothing of it is left.

    What was removed since is no longer true, and a neighbour that is missing because nearer ones
    were added since is not missed.
    """
    if not truth.keys:
        return None
    num_found, num_true, num_sampled = 0, 0, 0
    hits_by_row = index.search(truth.vectors, K + 1)
    for key, nearest, hits in zip(truth.keys, truth.nearest, hits_by_row, strict=True):
        true = [(near, score) for near, score in nearest if near in index]
        if key not in index or not true:
            continue
        others = [hit for hit in hits if hit.key != key][:K]
        found = {hit.key for hit in others}
        worst = others[-1].score if len(others) == K else -np.inf
        num_sampled += 1
        num_true += len(true)
        num_found += sum(near in found or score <= worst + _EQUAL for near, score in true)
    return Recall(num_found / num_true, num_sampled) if num_true else None


class RecallWatch:
    """Measures an index after rebuilds and once an hour, and has it search harder if need be.

    Args:
        name: The bank's id, for the log.
        store: The bank.
        index: Its index.
        period_s: The seconds between two measurements.
    """

    def __init__(
        self, name: str, store: BankStore, index: Index, *, period_s: float = PERIOD_S
    ) -> None:
        self._name = name
        self._store = store
        self._index = index
        self._period_s = period_s
        self._changing = threading.Condition()
        self._is_due = False
        self._is_idle = True
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._seed = 0
        self._num_measured = 0
        # The last measurement; None before the first.
        self.result: Recall | None = None

    def wake(self) -> None:
        """Measure soon, because the index has changed; if it has changed by much."""
        state = self._index.state()
        changed = abs(state.num_vectors - self._num_measured)
        with self._changing:
            if self.result is not None and changed < _CHANGED_SHARE * state.num_vectors:
                return
            if self._index.exact or not state.num_vectors or self._closed.is_set():
                return
            self._is_due, self._is_idle = True, False
            self._changing.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="recall", daemon=True)
                self._thread.start()

    def settle(self) -> None:
        """Wait until nothing is being measured."""
        with self._changing:
            self._changing.wait_for(lambda: self._is_idle)

    def close(self) -> None:
        """Break off measuring."""
        with self._changing:
            self._closed.set()
            self._changing.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        give_way()
        while not self._closed.is_set():
            try:
                self._measure()
            except BrokenOffError:
                pass
            except Exception:
                _log.exception("recall could not be measured", bank=self._name)
            with self._changing:
                if not self._is_due:
                    self._is_idle = True
                    self._changing.notify_all()
                    self._changing.wait_for(
                        lambda: self._is_due or self._closed.is_set(), self._period_s
                    )
        with self._changing:
            self._is_idle = True
            self._changing.notify_all()

    def _measure(self) -> None:
        self._is_due = False
        self._seed += 1
        self._num_measured = self._index.state().num_vectors
        truth = true_neighbours(self._store, NUM_SAMPLED, self._seed, self._pause)
        while (result := recall_of(self._index, truth)) is not None:
            self.result = result
            if result.share >= WANTED or self._closed.is_set():
                return
            told = {"bank": self._name, "recall": round(result.share, 4)}
            change = self._index.search_harder()
            if not change:
                remedy = "make a bank with larger parameters, such as hnsw:m=48,ef_construction=400"
                _log.warning("an index finds too little and is at its limit", **told, remedy=remedy)
                return
            _log.warning("an index found too little and searches harder", **told, change=change)

    def _pause(self, seconds: float) -> None:
        """At most a quarter of one processor."""
        if self._closed.wait(min(3 * seconds, 1.0)):
            raise BrokenOffError


def _sampled(store: BankStore, number: int, seed: int) -> Iterator[tuple[bytes, Vectors]]:
    """Vectors at random: keys are hashes, so what follows a random key is a fair choice."""
    rng, dimensions = np.random.default_rng(seed), store.info.embedder.dimensions
    environment = store.environment
    with environment.read() as txn, txn.cursor(environment.databases[VECTORS]) as cursor:
        for _ in range(number):
            if cursor.set_range(rng.bytes(16)) or cursor.first():
                try:
                    yield cursor.key(), vector_from_bytes(cursor.key(), cursor.value(), dimensions)
                except CorruptDataError:
                    continue


def _blocks(store: BankStore) -> Iterator[tuple[list[bytes], Vectors]]:
    """All vectors in the order of keys, each block in a transaction of its own."""
    environment, dimensions = store.environment, store.info.embedder.dimensions
    after: bytes | None = None
    while True:
        with environment.read() as txn, txn.cursor(environment.databases[VECTORS]) as cursor:
            there = cursor.first() if after is None else cursor.set_range(after + b"\0")
            rows = list(islice(cursor.iternext(), _BLOCK)) if there else []
        if not rows:
            return
        after = rows[-1][0]
        try:
            vectors = vectors_from_bytes(rows, dimensions)
        except CorruptDataError:
            # Verifying tells of a damaged one; the others can be searched.
            rows = [(key, data) for key, data in rows if _is_sound(key, data, dimensions)]
            vectors = vectors_from_bytes(rows, dimensions)
        yield [key for key, _ in rows], vectors


def _is_sound(key: bytes, data: bytes, dimensions: int) -> bool:
    try:
        vector_from_bytes(key, data, dimensions)
    except CorruptDataError:
        return False
    return True


def _best(scores: Vectors, names: npt.NDArray[np.void]) -> tuple[Vectors, npt.NDArray[np.void]]:
    """The first `K` of each row by falling score."""
    few = np.argpartition(-scores, K - 1, axis=1)[:, :K]
    order = np.argsort(-np.take_along_axis(scores, few, axis=1), axis=1, kind="stable")
    chosen = np.take_along_axis(few, order, axis=1)
    return np.take_along_axis(scores, chosen, axis=1), np.take_along_axis(names, chosen, axis=1)
