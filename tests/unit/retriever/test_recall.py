"""How much an index finds is measured on the bank's own vectors, told, and mended."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory3_retriever.bank import recall as recall_module
from memory3_retriever.bank.ledger import NewReference
from memory3_retriever.bank.live import LiveBank, make_index
from memory3_retriever.bank.recall import Truth, recall_of, true_neighbours
from memory3_retriever.bank.records import EmbedderIdentity, Reference
from memory3_retriever.bank.store import BankStore
from memory3_retriever.indexes.base import Index
from memory3_retriever.indexes.exact import ExactIndex

from memory3.testing.indexes import clustered, keys_of
from tests.unit.retriever.banks import info_of
from tests.unit.retriever.conftest import RunningRetriever

DIMENSIONS = 24
# A graph so thin that it finds too little at first.
THIN = "hnsw:m=4,ef_construction=16,ef=16,delta=16"


def bank_of(folder: Path, index: str, vectors: np.ndarray) -> LiveBank:
    """An open bank with these vectors."""
    folder.mkdir()
    info = info_of(index=index, embedder=EmbedderIdentity("e", "e" * 64, vectors.shape[1]))
    store = BankStore(folder, "docs", map_bytes=1 << 22, max_map_bytes=1 << 30, info=info)
    bank = LiveBank(store, folder)
    bank.put([NewReference(Reference(f"text {n}"), row) for n, row in enumerate(vectors)])
    return bank


def nothing(seconds: float) -> None:
    """No pause."""


def test_true_neighbours_are_those_of_all_cosines(tmp_path: Path) -> None:
    """Read in blocks from the bank, each vector's own key left out."""
    vectors = clustered(3000, DIMENSIONS, 1)
    bank = bank_of(tmp_path / "bank", "exact", vectors)
    truth = true_neighbours(bank.store, 40, 7, nothing)
    keys = [Reference(f"text {n}").key for n in range(3000)]
    assert 30 <= len(truth.keys) <= 40
    for key, nearest in zip(truth.keys, truth.nearest, strict=True):
        row = keys.index(key)
        cosines = vectors @ vectors[row]
        cosines[row] = -1
        assert [near for near, _ in nearest] == [keys[n] for n in np.argsort(-cosines)[:5]]
    bank.close()


def test_an_index_that_knows_only_half_is_found_out() -> None:
    """Recall is the share of what is there; what was removed from the index is not asked for."""
    keys, vectors = keys_of(400), clustered(400, DIMENSIONS, 2)

    class Half(ExactIndex):
        """Answers as if every second vector were not there."""

        def _search(self, queries: Any, k: int) -> Any:
            hits = super()._search(queries, len(self))
            return [[hit for hit in found if hit.key in half][:k] for found in hits]

    index, half = Half(DIMENSIONS), set(keys[::2])
    index.add(keys, vectors)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    order = np.argsort(-cosines, axis=1)[:, :5]
    nearest = [[(keys[c], float(cosines[r, c])) for c in row] for r, row in enumerate(order)]
    truth = Truth(keys, vectors, nearest)
    expected = np.mean([near in half for row in nearest for near, _ in row])
    measured = recall_of(index, truth)
    assert measured is not None
    assert (measured.share, measured.num_sampled) == (pytest.approx(expected), 400)
    index.remove(sorted(set(keys) - half))
    measured = recall_of(index, truth)
    assert measured is not None
    answerable = sum(any(near in half for near, _ in row) for row in nearest[::2])
    assert (measured.share, measured.num_sampled) == (1.0, answerable)


@pytest.mark.parametrize("index", ["hnsw:delta=64", "ivf:delta=64"])
def test_recall_is_measured_after_a_rebuild(tmp_path: Path, index: str) -> None:
    """The report tells of base, delta, deleted and what is found."""
    bank = bank_of(tmp_path / "bank", index, clustered(500, DIMENSIONS, 3))
    bank.settle()
    bank.delete([Reference(f"text {n}").key for n in range(10)])
    report = bank.index_report()
    state = report.state
    assert (state.num_vectors, state.num_delta, state.num_deleted) == (500, 0, 10)
    assert state.memory_bytes > 0
    assert not state.rebuilding
    assert report.recall is not None
    assert report.recall.share >= 0.99
    assert report.recall.num_sampled > 100
    bank.close()


def test_no_recall_where_everything_is_searched_exactly(tmp_path: Path) -> None:
    """Neither for the exact index nor while all vectors wait in the delta."""
    for number, index in enumerate(("exact", "hnsw", "ivf")):
        bank = bank_of(tmp_path / str(number), index, clustered(200, DIMENSIONS, 4))
        bank.settle()
        assert bank.index_report().recall is None
        bank.close()


def test_an_index_that_finds_too_little_searches_harder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``ef`` is doubled until enough is found or the bound is reached, and the log says so."""
    told: list[dict[str, Any]] = []

    class Log:
        """Remembers warnings."""

        def warning(self, event: str, **values: Any) -> None:
            told.append({"event": event, **values})

    monkeypatch.setattr(recall_module, "_log", Log())
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(3000, 64)).astype(np.float32)  # of no structure: hard to find
    bank = bank_of(tmp_path / "bank", THIN, vectors)
    bank.settle()
    index = bank._index
    assert 16 < index.parameters.ef <= 128  # type: ignore[attr-defined]
    recall = bank.index_report().recall
    assert recall is not None
    assert recall.share >= 0.99 or index.parameters.ef == 128  # type: ignore[attr-defined]
    assert index._state.base.native.ef == index.parameters.ef  # type: ignore[attr-defined]
    assert told[0]["change"] == "ef raised from 16 to 32"
    assert told[0]["recall"] < 0.99
    assert told[0]["bank"] == "docs"
    bank.close()


def test_ivf_looks_into_more_lists(tmp_path: Path) -> None:
    """The same for lists, up to all of them."""
    rng = np.random.default_rng(6)
    vectors = rng.normal(size=(3000, 64)).astype(np.float32)
    bank = bank_of(tmp_path / "bank", "ivf:probes=1,candidates=16,delta=16", vectors)
    bank.settle()
    probes = bank._index.parameters.probes  # type: ignore[attr-defined]
    assert 1 < probes <= 16
    bank.close()


def test_an_index_of_the_base_class_has_a_report() -> None:
    """A stranger's plugin need not know of any of it."""

    class Plain(Index):
        """What a plugin must have, and no more."""

        def keys(self) -> set[bytes]:
            return set()

        def __contains__(self, key: bytes) -> bool:
            return False

        def __len__(self) -> int:
            return 3

        def _add(self, keys: Any, vectors: Any) -> None: ...

        def _remove(self, keys: Any) -> None: ...

        def _search(self, queries: Any, k: int) -> Any:
            return []

    assert Plain(2).state().num_vectors == 3
    assert Plain(2).search_harder() == ""


def test_recall_is_a_metric_and_part_of_the_bank(
    start_retriever: Callable[..., RunningRetriever],
) -> None:
    """GetBank and Prometheus tell the same; a deleted bank leaves no sample behind."""
    from memory3.v1 import retriever_pb2
    from tests.unit.retriever.banks import items

    retriever = start_retriever()
    retriever.create("docs", index="hnsw:delta=16")
    bank = retriever.loaded.catalog.get("docs")
    bank.put(items(60))
    bank.settle()
    request = retriever_pb2.GetBankRequest(name="banks/docs")
    index = retriever.stub.GetBank(request).bank.statistics.index
    assert index.num_vectors == 60
    assert index.HasField("recall")
    assert retriever.sample("memory3_index_recall", bank="docs") == index.recall >= 0.9
    assert retriever.sample("memory3_index_vectors", bank="docs", part="base") == 60
    assert retriever.sample("memory3_index_memory_bytes", bank="docs") == index.memory_bytes
    retriever.stub.DeleteBank(retriever_pb2.DeleteBankRequest(name="banks/docs"))
    labels = {"bank": "docs"}
    assert retriever.registry.get_sample_value("memory3_index_recall", labels) is None


def test_an_index_of_another_bank_is_not_taken_up(tmp_path: Path) -> None:
    """The same keys under other vectors: whole files, of another owner."""
    keys, vectors = keys_of(100), clustered(100, DIMENSIONS, 8)
    for name in ("hnsw:delta=16", "ivf:delta=16"):
        folder = tmp_path / name.partition(":")[0]
        first = make_index(name, DIMENSIONS, folder)
        first.owner = "one"
        first.vectors_of = lambda wanted: {k: vectors[keys.index(k)] for k in wanted if k in keys}
        first.add(keys, vectors)
        first.settle()
        first.close()
        for owner, expected in (("one", 100), ("two", 0)):
            again = make_index(name, DIMENSIONS, folder)
            again.owner, again.vectors_of = owner, first.vectors_of
            again.load()
            assert len(again) == expected
            again.close()
