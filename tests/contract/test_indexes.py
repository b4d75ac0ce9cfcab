"""The index family's contract, and the recall of hnsw against exact search."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory3_retriever.indexes.exact import ExactIndex
from memory3_retriever.indexes.hnsw import HnswIndex
from memory3_retriever.indexes.ivf import IvfIndex

from memory3 import plugins
from memory3.errors import InvalidArgumentError
from memory3.testing.indexes import IndexContract, clustered, found_keys, keys_of


class TestExactIndex(IndexContract):
    """The exact index; all of the nearest are found."""

    minimum_recall = 1.0

    def make(self, dimensions: int, folder: Path | None) -> Any:
        """As the retriever makes it."""
        return ExactIndex(dimensions, folder=folder)


class TestHnswIndex(IndexContract):
    """The HNSW index at its defaults: so few vectors are searched exactly."""

    def make(self, dimensions: int, folder: Path | None) -> Any:
        """As the retriever makes it."""
        return HnswIndex(dimensions, folder=folder)


class TestHnswGraph(IndexContract):
    """The HNSW index with a delta so small that nearly everything is found by the graph."""

    def make(self, dimensions: int, folder: Path | None) -> Any:
        """With a small delta."""
        return HnswIndex(dimensions, argument="delta=64", folder=folder)


class TestIvfLists(IndexContract):
    """The IVF index with a delta so small that nearly everything is found by the lists."""

    def make(self, dimensions: int, folder: Path | None) -> Any:
        """With a small delta."""
        return IvfIndex(dimensions, argument="delta=64", folder=folder)


class TestIvfOverTruth(IndexContract):
    """The IVF index as a bank has it: exact vectors are read from elsewhere."""

    @pytest.fixture(autouse=True)
    def _truth(self) -> None:
        self.truth: dict[bytes, Any] = {}

    def make(self, dimensions: int, folder: Path | None) -> Any:
        """With vectors that outlive the index, and four bits."""
        index = IvfIndex(dimensions, argument="delta=64,bits=4", folder=folder)
        index.vectors_of = lambda keys: {k: self.truth[k] for k in keys if k in self.truth}
        add, remove = index._add, index._remove

        def add_after_truth(keys: list[bytes], vectors: Any) -> None:
            self.truth.update(zip(keys, vectors, strict=True))
            add(keys, vectors)

        def remove_after_truth(keys: set[bytes]) -> None:
            for key in keys:
                del self.truth[key]
            remove(keys)

        index._add, index._remove = add_after_truth, remove_after_truth  # type: ignore[method-assign]
        return index


def test_recall_of_hnsw_against_exact_at_the_defaults() -> None:
    """At the default settings at least 0.99 of the five nearest are found, by the graph."""
    keys, vectors = keys_of(12_000), clustered(12_000, 96, 1)
    hnsw, exact = HnswIndex(96), ExactIndex(96)
    hnsw.add(keys, vectors)
    exact.add(keys, vectors)
    hnsw.settle()
    assert hnsw.num_in_base == 12_000
    queries = clustered(500, 96, 2)
    pairs = zip(found_keys(hnsw, queries, 5), found_keys(exact, queries, 5), strict=True)
    recall = np.mean([len(set(near) & set(true)) / 5 for near, true in pairs])
    assert recall >= 0.99
    hnsw.close()


def test_all_are_installed_as_plugins() -> None:
    """The built-ins register as a stranger's package would."""
    assert plugins.load("indexes", "ivf:probes=16") is IvfIndex
    assert plugins.load("indexes", "exact") is ExactIndex
    assert plugins.load("indexes", "hnsw:m=16") is HnswIndex


@pytest.mark.parametrize(
    "argument", ["", "m", "m=", "m=3", "m=x", "ef=99999", "what=1", "m=16;ef=1", "m=١٦", "m=-8"]
)
def test_bad_parameters_are_refused(argument: str) -> None:
    """An argument that is not of the form name=number,... names the field and the ranges."""
    with pytest.raises(InvalidArgumentError) as raised:
        HnswIndex(8, argument=argument)
    assert raised.value.field == "index"
    assert "ef_construction" in (raised.value.remedy or "")


@pytest.mark.parametrize("argument", ["", "bits=3", "bits=9", "lists=0", "probes", "m=16"])
def test_bad_parameters_of_ivf_are_refused(argument: str) -> None:
    """The same for the other index that takes some."""
    with pytest.raises(InvalidArgumentError) as raised:
        IvfIndex(8, argument=argument)
    assert raised.value.field == "index"
    assert "probes=1.." in (raised.value.remedy or "")


def test_exact_takes_no_argument() -> None:
    """There is nothing to set."""
    with pytest.raises(InvalidArgumentError):
        ExactIndex(8, argument="fast")
