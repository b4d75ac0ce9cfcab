"""The contract of the index family: subclass ``IndexContract`` and say how yours is made.

A plugin passes the family's tests by::

    from memory3.testing.indexes import IndexContract

    class TestMyIndex(IndexContract):
        def make(self, dimensions, folder):
            return MyIndex(dimensions, folder=folder)

All tests call only what the family's base promises. It must not know any one index.
"""

from __future__ import annotations

import shutil
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from memory3.errors import InvalidArgumentError

Vectors = npt.NDArray[np.float32]

DIMENSIONS = 24


# A subclass of the family's base, which belongs to the retriever and is not imported here.
IndexLike = Any


def keys_of(count: int, seed: int = 0) -> list[bytes]:
    """Distinct 16-byte keys in no order."""
    rng = np.random.default_rng(seed)
    return [rng.bytes(12) + number.to_bytes(4, "big") for number in range(count)]


def clustered(count: int, dimensions: int, seed: int) -> Vectors:
    """Unit vectors around common centres, as embeddings of real texts are."""
    centres = np.random.default_rng(1234).normal(size=(50, dimensions))
    rng = np.random.default_rng(seed)
    near = centres[rng.integers(0, len(centres), count)]
    vectors = near + 0.6 * rng.normal(size=(count, dimensions))
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def found_keys(index: IndexLike, queries: Vectors, k: int) -> list[list[bytes]]:
    """The keys of the hits of each query."""
    return [[hit.key for hit in hits] for hits in index.search(queries, k)]


class IndexContract(ABC):
    """What every index must do; pytest collects a subclass whose name starts with ``Test``."""

    # The least share of the true five nearest that must be found.
    minimum_recall = 0.99

    @abstractmethod
    def make(self, dimensions: int, folder: Path | None) -> IndexLike:
        """A new, empty index.

        Args:
            dimensions: The length of a vector.
            folder: Where it may keep files; None for nowhere.
        """

    @pytest.fixture
    def index(self) -> Any:
        """An empty index."""
        index = self.make(DIMENSIONS, None)
        yield index
        index.close()

    def test_an_empty_index_finds_nothing(self, index: IndexLike) -> None:
        """Searching before anything was added is no error."""
        assert index.search(clustered(2, DIMENSIONS, 1), 5) == [[], []]
        assert len(index) == 0
        assert index.keys() == set()

    def test_a_vector_finds_itself_first(self, index: IndexLike) -> None:
        """The nearest to a vector is the vector itself, with a cosine of 1."""
        keys, vectors = keys_of(300), clustered(300, DIMENSIONS, 2)
        index.add(keys, vectors)
        index.settle()
        hits = index.search(vectors, 1)
        assert [hit[0].key for hit in hits] == keys
        assert [hit[0].score for hit in hits] == pytest.approx([1.0] * 300, abs=1e-5)

    def test_scores_are_cosines_whatever_the_lengths(self, index: IndexLike) -> None:
        """Neither long queries nor short vectors change a score."""
        keys, vectors = keys_of(50), clustered(50, DIMENSIONS, 3)
        index.add(keys, vectors * np.linspace(0.01, 90, 50, dtype=np.float32)[:, None])
        query = clustered(1, DIMENSIONS, 4)
        cosines = dict(zip(keys, (vectors @ query[0]).tolist(), strict=True))
        for hit in index.search(query * 7, 10)[0]:
            assert hit.score == pytest.approx(cosines[hit.key], abs=1e-5)

    def test_hits_fall_and_are_distinct(self, index: IndexLike) -> None:
        """Hits come by falling score, none twice, exactly k where there are k."""
        index.add(keys_of(200), clustered(200, DIMENSIONS, 5))
        for hits in index.search(clustered(20, DIMENSIONS, 6), 7):
            assert len({hit.key for hit in hits}) == 7
            assert [hit.score for hit in hits] == sorted((h.score for h in hits), reverse=True)

    def test_k_may_be_more_than_there_is(self, index: IndexLike) -> None:
        """All are found where k is larger than the index."""
        keys = keys_of(30)
        index.add(keys, clustered(30, DIMENSIONS, 7))
        index.settle()
        assert set(found_keys(index, clustered(1, DIMENSIONS, 8), 1000)[0]) == set(keys)

    def test_equal_scores_come_in_the_order_of_keys(self, index: IndexLike) -> None:
        """Ties are broken the same way whatever the order of additions."""
        keys = keys_of(40)
        same = np.repeat(clustered(1, DIMENSIONS, 9), 40, axis=0)
        index.add(keys, same)
        assert found_keys(index, same[:1], 40)[0] == sorted(keys)

    def test_adding_again_changes_nothing(self, index: IndexLike) -> None:
        """A key that is there keeps its vector, within one addition and across two."""
        keys, vectors = keys_of(3), clustered(3, DIMENSIONS, 10)
        index.add([*keys, keys[0]], np.concatenate([vectors, -vectors[:1]]))
        index.add(keys[:1], -vectors[:1])
        assert len(index) == 3
        assert index.search(vectors[:1], 1)[0][0].score == pytest.approx(1.0, abs=1e-5)

    def test_what_is_removed_is_not_found(self, index: IndexLike) -> None:
        """Removal holds at once; unknown keys are passed over; what stays is found."""
        keys, vectors = keys_of(300), clustered(300, DIMENSIONS, 11)
        index.add(keys, vectors)
        index.settle()
        index.remove([*keys[:150], b"unknown unknown!"])
        assert index.keys() == set(keys[150:])
        found = {key for hits in found_keys(index, vectors, 10) for key in hits}
        assert found.isdisjoint(keys[:150])
        index.settle()
        assert [hit[0] for hit in found_keys(index, vectors[150:], 1)] == keys[150:]

    def test_what_was_removed_can_come_back(self, index: IndexLike) -> None:
        """A key that is added after its removal is found with its new vector."""
        keys, vectors = keys_of(100), clustered(100, DIMENSIONS, 12)
        index.add(keys, vectors)
        index.settle()
        index.remove(keys[:1])
        index.add(keys[:1], -vectors[:1])
        assert found_keys(index, -vectors[:1], 1)[0] == keys[:1]
        assert keys[0] in index

    def test_it_never_says_that_it_holds_other_keys(self, index: IndexLike) -> None:
        """What is removed is not held any more, whatever a base still has; other keys never are."""

        def ordered(keys: list[bytes]) -> Any:
            return np.frombuffer(b"".join(sorted(keys)), dtype="S16")

        keys, vectors = keys_of(210), clustered(210, DIMENSIONS, 8)
        assert index.holds(ordered([]))
        for start, end in ((0, 100), (100, 200)):
            index.add(keys[start:end], vectors[start:end])
            index.settle()
        index.remove(keys[:7])
        nothing: list[bytes] = []
        wrong = (keys[:200], keys[8:200], keys[7:201], [*keys[8:200], keys[205]], nothing)
        assert not any(index.holds(ordered(each)) for each in wrong)
        index.add(keys[200:], vectors[200:])
        index.settle()
        assert not any(index.holds(ordered(each)) for each in (*wrong, keys))

    def test_zeros_are_near_nothing(self, index: IndexLike) -> None:
        """A zero query finds nothing, and a zero vector scores 0 with every query."""
        keys = keys_of(2)
        vectors = np.concatenate(
            [clustered(1, DIMENSIONS, 13), np.zeros((1, DIMENSIONS), dtype=np.float32)]
        )
        index.add(keys, vectors)
        assert index.search(np.zeros((1, DIMENSIONS), dtype=np.float32), 5) == [[]]
        scores = {hit.key: hit.score for hit in index.search(vectors[:1], 5)[0]}
        assert scores[keys[1]] == pytest.approx(0.0, abs=1e-6)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_values_that_are_not_finite_are_refused(self, index: IndexLike, bad: float) -> None:
        """They would spread through every score; nothing of the batch is taken."""
        vectors = clustered(3, DIMENSIONS, 14)
        vectors[1, 5] = bad
        with pytest.raises(InvalidArgumentError, match="finite"):
            index.add(keys_of(3), vectors)
        with pytest.raises(InvalidArgumentError, match="finite"):
            index.search(vectors, 1)
        assert len(index) == 0

    @pytest.mark.parametrize("shape", [(2, DIMENSIONS + 1), (2, DIMENSIONS - 1), (DIMENSIONS,)])
    def test_other_shapes_are_refused(self, index: IndexLike, shape: tuple[int, ...]) -> None:
        """Vectors of another length, or not a table of them."""
        with pytest.raises(InvalidArgumentError):
            index.add(keys_of(2), np.ones(shape, dtype=np.float32))
        with pytest.raises(InvalidArgumentError):
            index.search(np.ones(shape, dtype=np.float32), 1)

    @pytest.mark.parametrize("k", [0, -1])
    def test_k_below_one_is_refused(self, index: IndexLike, k: int) -> None:
        """There is no such number of hits."""
        with pytest.raises(InvalidArgumentError) as raised:
            index.search(clustered(1, DIMENSIONS, 15), k)
        assert raised.value.field == "k"

    def test_as_many_keys_as_vectors(self, index: IndexLike) -> None:
        """A vector without a key, or a key without a vector, is refused."""
        with pytest.raises(InvalidArgumentError):
            index.add(keys_of(2), clustered(3, DIMENSIONS, 16))

    def test_the_true_nearest_are_found(self, index: IndexLike) -> None:
        """Recall at 5 against all cosines, after additions and removals."""
        keys, vectors = keys_of(3000), clustered(3000, DIMENSIONS, 17)
        for start in range(0, 3000, 500):
            index.add(keys[start : start + 500], vectors[start : start + 500])
        index.settle()
        index.remove(keys[:600])
        index.settle()
        queries = clustered(200, DIMENSIONS, 18)
        order = np.argsort(-(queries @ vectors[600:].T), axis=1)[:, :5]
        found = found_keys(index, queries, 5)
        hits = [
            len({keys[600 + row] for row in true} & set(got))
            for true, got in zip(order, found, strict=True)
        ]
        assert sum(hits) / (5 * len(queries)) >= self.minimum_recall

    def test_searches_go_on_beside_changes(self, index: IndexLike) -> None:
        """No search fails or sees a removed key while another thread adds and removes."""
        keys, vectors = keys_of(4000), clustered(4000, DIMENSIONS, 19)
        index.add(keys[:500], vectors[:500])
        failures: list[BaseException] = []
        removed: list[bytes] = []
        done = threading.Event()

        def search() -> None:
            try:
                while not done.is_set():
                    gone = set(removed)
                    hits = index.search(vectors[:4], 3)
                    assert gone.isdisjoint(hit.key for found in hits for hit in found)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=search) for _ in range(3)]
        for thread in threads:
            thread.start()
        for start in range(500, 4000, 100):
            block = slice(start, start + 100)
            index.add(keys[block], vectors[block])
            assert [hit[0] for hit in found_keys(index, vectors[block], 1)] == keys[block]
            doomed = keys[start - 100 : start - 50]
            index.remove(doomed)
            removed.extend(doomed)
        done.set()
        for thread in threads:
            thread.join()
        assert failures == []

    def test_what_was_saved_is_found_again(self, tmp_path: Path) -> None:
        """A new index that loads holds some of what the old one held, and finds it right."""
        keys, vectors = keys_of(500), clustered(500, DIMENSIONS, 20)
        first = self.make(DIMENSIONS, tmp_path / "index")
        first.add(keys, vectors)
        first.settle()
        first.close()
        first.save()
        second = self.make(DIMENSIONS, tmp_path / "index")
        second.load()
        assert second.keys() <= set(keys)
        second.add(keys, vectors)
        assert [hit[0] for hit in found_keys(second, vectors, 1)] == keys
        second.close()

    def test_damaged_files_are_not_believed(self, tmp_path: Path) -> None:
        """Whatever byte is flipped or cut off, the index starts empty or finds the truth."""
        folder = tmp_path / "index"
        keys, vectors = keys_of(200), clustered(200, DIMENSIONS, 21)
        first = self.make(DIMENSIONS, folder)
        first.add(keys, vectors)
        first.settle()
        first.close()
        first.save()
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        for number, path in enumerate(files):
            for damage in (_flip, _cut):
                copy = tmp_path / f"{damage.__name__}-{number}"
                shutil.copytree(folder, copy)
                damaged = copy / path.relative_to(folder)
                damaged.write_bytes(damage(path.read_bytes()))
                self._check_truth(copy, keys, vectors)

    def _check_truth(self, folder: Path, keys: list[bytes], vectors: Vectors) -> None:
        index = self.make(DIMENSIONS, folder)
        index.load()
        index.remove(sorted(index.keys() - set(keys)))
        index.add(keys, vectors)
        assert [hit[0] for hit in found_keys(index, vectors, 1)] == keys
        index.close()


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]
