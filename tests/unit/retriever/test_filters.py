"""Filters find what a plain look at every reference finds, whatever metadata and conditions."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory3_retriever.bank import selective
from memory3_retriever.bank.filters import AnyOf, Between, Condition, Exists, Filter
from memory3_retriever.bank.ledger import NewReference
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.records import Reference

from tests.unit.retriever.banks import new_store
from tests.unit.retriever.encoder_double import DIMENSIONS, vector_of

LONG = "z" * 256
SOME_VALUES = (
    "", "de", "en", "1", "2", "2.0", "02", "10", "-3", "+4", ".5", "5.", "1e3", "é", "ß",
    "2020-01-02", LONG, LONG + "a", LONG + "b", LONG + "ba", "a\0b", "٣",
)  # fmt: skip
VALUES = st.sampled_from(SOME_VALUES) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=6
)
KEYS = st.sampled_from(["lang", "langs", "year", "", "a\0b", "a", "k" * 200, "$source", "$title"])
METADATA = st.dictionaries(KEYS.filter(lambda key: not key.startswith("$")), VALUES, max_size=4)
BOUNDS = st.none() | VALUES


@st.composite
def references(draw: st.DrawFn) -> list[Reference]:
    """Distinct references with all kinds of metadata."""
    return [
        Reference(
            f"text {number}",
            source=draw(VALUES | st.just("x" * 480 + str(number % 3))),
            title=draw(VALUES),
            metadata=draw(METADATA),
        )
        for number in range(draw(st.integers(0, 12)))
    ]


TESTS = st.one_of(
    st.frozensets(VALUES, max_size=3).map(AnyOf),
    st.builds(Between, BOUNDS, BOUNDS, BOUNDS, BOUNDS),
    st.booleans().map(Exists),
)
FILTERS = st.lists(st.builds(Condition, KEYS, TESTS), min_size=1, max_size=3).map(tuple)


def as_number(text: str) -> float | None:
    """The number that a text is, by looking at its characters."""
    digits = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
    plain = digits.replace(".", "", 1)
    return float(text) if plain.isascii() and plain.isdigit() else None


def holds(reference: Reference, condition: Condition) -> bool:
    """Whether a reference passes, read from the protocol's words."""
    fields = {"$source": reference.source or None, "$title": reference.title or None}
    value = (fields if condition.key in fields else reference.metadata).get(condition.key)
    test = condition.test
    if isinstance(test, Exists):
        return (value is not None) is test.wanted
    if value is None:
        return False
    if isinstance(test, AnyOf):
        return value in test.values
    bounds = [test.min, test.max, test.above, test.below]
    found: list[object] = [value, *bounds]
    if all(each is None or as_number(each) is not None for each in bounds):
        found = [each if each is None else as_number(str(each)) for each in found]
    its, low, high, above, below = found
    if its is None:
        return False
    return not (
        (low is not None and its < low)  # type: ignore[operator]
        or (high is not None and its > high)  # type: ignore[operator]
        or (above is not None and its <= above)  # type: ignore[operator]
        or (below is not None and its >= below)  # type: ignore[operator]
    )


@settings(max_examples=40, deadline=None)
@given(references(), st.lists(FILTERS, min_size=1, max_size=8))
def test_a_filter_finds_what_a_look_at_every_reference_finds(
    given: list[Reference], filters: list[Filter]
) -> None:
    """By way of the lookups, and by a search."""
    with tempfile.TemporaryDirectory() as folder:
        store = new_store(Path(folder) / "bank")
        store.put([NewReference(each, vector_of(each.text)) for each in given])
        bank = LiveBank(store, Path(folder) / "bank")
        for where in filters:
            expected = {each.key for each in given if all(holds(each, one) for one in where)}
            _, matches = store.matching(where)
            assert {each.key for each in given if each.key in matches} == expected
            assert set(matches.listed(store.vector_keys)) == expected
            assert len(matches) == len(expected)
            (hits,) = bank.search(vector_of("text")[None], 256, where)[1]
            assert {hit.key for hit in hits} == expected
        bank.close()


@settings(max_examples=25, deadline=None)
@given(references(), references(), st.data())
def test_lookups_follow_every_change(
    before: list[Reference], after: list[Reference], data: st.DataObject
) -> None:
    """After additions, new metadata and deletions they say what the references say, to the byte."""
    with tempfile.TemporaryDirectory() as folder:
        store = new_store(Path(folder) / "bank")
        store.put([NewReference(each, vector_of(each.text)) for each in before])
        items = [NewReference(each, vector_of(each.text)) for each in after]
        store.put(items, update=after, overwrite=data.draw(st.booleans()))
        doomed = data.draw(st.lists(st.sampled_from([*before, *after] or [None])))
        store.delete([each.key for each in doomed if each is not None])
        kept = store.page(b"", 1000)
        fresh = new_store(Path(folder) / "fresh")
        fresh.put([NewReference(each, vector_of(each.text)) for each in kept])
        again = {each.key: each for each in fresh.page(b"", 1000)}
        for name in (b"metadata", b"expiry", b"sources"):
            assert rows(store, name) == rows(fresh, name)
        # Times of creation have the same length in both.
        assert {each.key for each in kept} == set(again)
        assert store.statistics().used_bytes == fresh.statistics().used_bytes
        store.close()
        fresh.close()


def rows(store: object, name: bytes) -> list[tuple[bytes, bytes]]:
    """All pairs of a database."""
    environment = store.environment  # type: ignore[attr-defined]
    with environment.read() as txn, txn.cursor(environment.databases[name]) as cursor:
        return list(cursor)


@pytest.mark.parametrize("limit", [0, 4096])
@pytest.mark.parametrize("index", ["exact", "hnsw:delta=100"])
def test_a_filtered_search_finds_the_nearest_of_those_that_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: str, limit: int
) -> None:
    """The same hits and scores as an exact look, also where what passes is far from the query."""
    monkeypatch.setattr(selective, "EXACT_REFERENCES", limit)
    monkeypatch.setattr(selective, "MANY_REFERENCES", limit)
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(600, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query = vectors[:1]
    # The farthest tenth has a value of its own, so over-fetching alone never finds them.
    near = (vectors @ query[0]).argsort()[::-1]
    kind = {int(row): "far" if place >= 540 else "near" for place, row in enumerate(near)}
    items = [
        NewReference(Reference(f"t{n}", metadata={"kind": kind[n], "even": str(n % 2)}), vectors[n])
        for n in range(600)
    ]
    bank = LiveBank(new_store(tmp_path / "bank", index=index), tmp_path / "bank")
    bank.put(items)
    bank.settle()
    for where in (
        (Condition("kind", AnyOf(frozenset(["far"]))),),
        (Condition("even", Between(min="1")),),
        (Condition("kind", Exists(True)), Condition("even", AnyOf(frozenset("0")))),
    ):
        passing = [i for i in items if all(holds(i.reference, one) for one in where)]
        scores = np.array([item.vector @ query[0] for item in passing])
        expected = [passing[i].reference.key for i in (-scores).argsort()[:7]]
        (hits,) = bank.search(query, 7, where)[1]
        assert [hit.key for hit in hits] == expected
        assert [hit.score for hit in hits] == pytest.approx(sorted(scores)[::-1][:7], abs=2e-6)
    bank.close()


def test_a_kept_filter_follows_the_bank(tmp_path: Path) -> None:
    """What was found for a filter before a change is not what is found after it."""
    bank = LiveBank(new_store(tmp_path / "bank"), tmp_path / "bank")
    where = (Condition("lang", AnyOf(frozenset(["de"]))),)
    query = vector_of("text")[None]
    first, second = (Reference(f"text {n}", metadata={"lang": "de"}) for n in range(2))
    bank.put([NewReference(first, vector_of(first.text))])
    assert [hit.key for hit in bank.search(query, 5, where)[1][0]] == [first.key]
    bank.put([NewReference(second, vector_of(second.text))])
    assert {hit.key for hit in bank.search(query, 5, where)[1][0]} == {first.key, second.key}
    bank.delete([first.key])
    assert [hit.key for hit in bank.search(query, 5, where)[1][0]] == [second.key]
    bank.put([], update=[Reference(second.text, metadata={"lang": "en"})])
    assert bank.search(query, 5, where)[1] == [[]]
    bank.close()


def test_a_kept_filter_follows_vectors_that_were_written_anew(tmp_path: Path) -> None:
    """What an overwritten reference is near to is what counts."""
    bank = LiveBank(new_store(tmp_path / "bank"), tmp_path / "bank")
    where = (Condition("lang", AnyOf(frozenset(["de"]))),)
    reference = Reference("text", metadata={"lang": "de"})
    bank.put([NewReference(reference, vector_of("one"))])
    for word in ("one", "two", "three"):
        bank.put([NewReference(reference, vector_of(word))], overwrite=True)
        ((hit,),) = bank.search(vector_of(word)[None], 5, where)[1]
        assert hit.score == pytest.approx(1, abs=1e-5)
    bank.close()
