"""A source stands for what is inside it: found, listed and deleted with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory3_retriever.bank.ledger import META, REFERENCES
from memory3_retriever.bank.sources import ORDERED_KEY, SOURCES, source_key

from memory3.errors import InvalidArgumentError
from memory3.v1 import retriever_pb2
from tests.unit.retriever.banks import items, new_store, open_store
from tests.unit.retriever.calls import (
    BANK,
    add_documents,
    add_references,
    named_query,
    refused,
    retrieve,
    search,
)
from tests.unit.retriever.conftest import RunningRetriever
from tests.unit.retriever.encoder_double import EncoderDouble

DEEP = "deep/" * 200  # a folder whose name alone is longer than a key
NAMES = (
    "p.csv",
    "p.csv#row/1",
    "p.csv#row/20",
    "p.csv.bak",
    "p.csv2#row/1",
    "docs/a.md",
    "docs/sub/b.csv#row/1",
    "docs2/a.md",
    "docs",
    f"{DEEP}a.csv#row/1",
    f"{DEEP}a.csv#row/2",
    f"{DEEP}a.csv.bak",
    f"{DEEP}b.md",
)


def inside(name: str, source: str) -> bool:
    """The rule of the protocol, said plainly."""
    return name == source or name.startswith(source if source.endswith("/") else f"{source}#")


@pytest.mark.parametrize(
    "source",
    ["p.csv", "p.csv#row/1", "p.csv#row/", "docs/", "docs", "p", "p.cs", "nowhere/", "#", DEEP,
     f"{DEEP}a.csv", f"{DEEP}b.md", f"{DEEP}a", DEEP[:-1]],
)  # fmt: skip
def test_a_source_is_deleted_with_what_is_inside_it(tmp_path: Path, source: str) -> None:
    """Records with their file, files with their folder; what only begins alike stays."""
    store = new_store(tmp_path / "bank")
    store.put([item for n, name in enumerate(NAMES) for item in items(2, name, start=2 * n)])
    doomed = [name for name in NAMES if inside(name, source)]
    assert sorted(store.sources(source, "", 100)) == sorted(doomed)
    assert {r.source for r in store.page(b"", 100, source)} == set(doomed)
    change, _ = store.delete([], source)
    assert len(change.removed) == 2 * len(doomed)
    assert {r.source for r in store.page(b"", 100)} == set(NAMES) - set(doomed)
    assert store.statistics().num_sources == len(NAMES) - len(doomed)
    store.close()


def test_exact_sources_leave_what_is_inside_them(tmp_path: Path) -> None:
    """A file can lose its own text and keep its records."""
    store = new_store(tmp_path / "bank")
    store.put([item for n, name in enumerate(NAMES) for item in items(1, name, start=n)])
    change, _ = store.delete([], exact_sources=["p.csv", f"{DEEP}b.md", "nothing"])
    assert len(change.removed) == 2
    gone = set(NAMES) - {r.source for r in store.page(b"", 100)}
    assert gone == {"p.csv", f"{DEEP}b.md"}
    store.close()


@settings(max_examples=25, deadline=None)
@given(
    names=st.sets(st.text("a#/é", min_size=1, max_size=6), min_size=1, max_size=12),
    long=st.booleans(),
    source=st.text("a#/é", max_size=4),
)
def test_the_rule_holds_for_any_names(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], long: bool, source: str
) -> None:
    """Short or longer than a key, listed in pages of any size, names follow the rule."""
    base = "é" * 240 if long else ""
    store = new_store(tmp_path_factory.mktemp("banks") / "bank")
    store.put([item for n, name in enumerate(names) for item in items(1, base + name, start=n)])
    expected = sorted(
        base + n for n in names if not base + source or inside(base + n, base + source)
    )
    listed: list[str] = []
    while page := store.sources(base + source, listed[-1] if listed else "", 2):
        listed += page
    assert sorted(listed) == expected
    store.close()


def test_a_bank_with_hashed_sources_is_put_in_order(tmp_path: Path) -> None:
    """A bank from before sources had an order gets one when it is opened, and keeps its sums."""
    store = new_store(tmp_path / "bank")
    store.put([item for n, name in enumerate(NAMES) for item in items(2, name, start=2 * n)])
    before = store.statistics()
    databases = store.environment.databases

    def hash_sources(txn: object) -> None:
        txn.drop(databases[SOURCES], delete=False)  # type: ignore[attr-defined]
        txn.delete(ORDERED_KEY, db=databases[META])  # type: ignore[attr-defined]
        for key in [r.key for r in references]:
            source = next(r.source for r in references if r.key == key)
            old = hashlib.sha256(source.encode()).digest()
            txn.put(old, key, db=databases[SOURCES])  # type: ignore[attr-defined]

    references = store.page(b"", 100)
    store.environment.write(hash_sources)
    store.close()
    again = open_store(tmp_path / "bank")
    assert again.statistics().num_sources == before.num_sources
    assert sorted(again.sources("", "", 100)) == sorted(NAMES)
    assert len(again.delete([], "p.csv")[0].removed) == 6
    revision = again.statistics().revision
    again.close()
    third = open_store(tmp_path / "bank")
    assert third.statistics().revision == revision
    third.close()


def test_a_damaged_record_does_not_hide_the_other_names(tmp_path: Path) -> None:
    """A long source is named by any sound reference of it."""
    store = new_store(tmp_path / "bank")
    source = f"{DEEP}b.md"
    store.put(items(3, source))
    first = store.page(b"", 1)[0].key
    store.environment.write(
        lambda txn: txn.put(first, b"damaged", db=store.environment.databases[REFERENCES])
    )
    assert store.sources(DEEP, "", 10) == [source]
    assert len(store.delete([], DEEP)[0].removed) == 3
    assert store.statistics().num_sources == 0
    store.close()


@pytest.mark.parametrize("length", [1, 476, 477, 478, 479, 510, 511, 512, 4096])
def test_keys_are_within_the_bounds_of_lmdb(length: int) -> None:
    """No name is too long for a key with a byte to step behind it."""
    assert 0 < len(source_key("s" * length)) <= 509


def test_deleted_sources_are_found_no_more(retriever: RunningRetriever) -> None:
    """Over the wire: one call removes a file's records from lists, searches and retrievals."""
    retriever.create()
    (kept,) = add_references(retriever, "Bob sails.", source="p.csv.bak")
    add_references(retriever, "Ada sings.", source="p.csv#row/1")
    add_references(retriever, "Cy swims.", source="p.csv#row/2")
    sources = retriever.stub.ListSources(
        retriever_pb2.ListSourcesRequest(bank=BANK, source="p.csv")
    )
    assert list(sources.sources) == ["p.csv#row/1", "p.csv#row/2"]
    request = retriever_pb2.DeleteReferencesRequest(bank=BANK, source="p.csv")
    assert retriever.stub.DeleteReferences(request).num_deleted == 2
    assert retriever.stub.DeleteReferences(request).num_deleted == 0
    assert search(retriever, "Ada sings.") == [["Bob sails."]]
    assert retrieve(retriever, named_query(kept.id)).envelopes.keys() == {kept.id}


def test_sources_come_in_pages(retriever: RunningRetriever) -> None:
    """A token goes on where a page ended; one of another list is refused."""
    retriever.create()
    for n in range(7):
        add_references(retriever, f"text {n}", source=f"a\n{n}")
    request = retriever_pb2.ListSourcesRequest(bank=BANK, page_size=3)
    pages = []
    while True:
        response = retriever.stub.ListSources(request)
        pages.append(list(response.sources))
        if not response.next_page_token:
            break
        request.page_token = response.next_page_token
    assert pages == [["a\n0", "a\n1", "a\n2"], ["a\n3", "a\n4", "a\n5"], ["a\n6"]]
    request.source = "a"
    error = refused(lambda: retriever.stub.ListSources(request))
    assert (type(error), error.field) == (InvalidArgumentError, "page_token")


def test_replace_renews_metadata_without_encoding(
    start_retriever: Callable[..., RunningRetriever], encoder: EncoderDouble
) -> None:
    """The same text with other metadata keeps id, time and memory, and counts as updated."""
    retriever = start_retriever()
    retriever.create()

    def document(year: str) -> retriever_pb2.Document:
        return retriever_pb2.Document(text="Ada sings.", source="a", metadata={"year": year})

    def stored(id_: str) -> retriever_pb2.GetReferenceResponse:
        return retriever.stub.GetReference(retriever_pb2.GetReferenceRequest(bank=BANK, id=id_))

    (first,) = add_documents(retriever, document("1"), replace=True)
    (id_,) = first.reference_ids
    before, calls = stored(id_), encoder.calls["Encode"]
    (kept,) = add_documents(retriever, document("2"))
    assert (kept.num_existing, kept.num_updated) == (1, 0)
    assert stored(id_) == before
    (second,) = add_documents(retriever, document("2"), replace=True)
    assert (second.num_added, second.num_existing, second.num_updated) == (0, 1, 1)
    assert list(second.reference_ids) == [id_]
    (third,) = add_documents(retriever, document("2"), replace=True)
    assert (third.num_existing, third.num_updated) == (1, 0)
    retriever = start_retriever()
    after = stored(id_)
    assert dict(after.reference.metadata) == {"year": "2"}
    assert after.reference.create_time == before.reference.create_time
    assert after.memory_bytes == before.memory_bytes
    assert encoder.calls["Encode"] == calls
    problems = retriever.stub.VerifyBank(retriever_pb2.VerifyBankRequest(name=BANK)).problems
    assert list(problems) == []


def test_adding_again_with_replace_changes_nothing(retriever: RunningRetriever) -> None:
    """The same text twice in one request, once with other metadata, settles on the last."""
    retriever.create()
    documents = [
        retriever_pb2.Document(text="Ada sings.", source="a", metadata={"n": n}) for n in "12"
    ]
    add_documents(retriever, *documents, replace=True)
    request = retriever_pb2.GetBankRequest(name=BANK)
    revision = retriever.stub.GetBank(request).bank.revision
    results = add_documents(retriever, *documents, replace=True)
    assert [result.num_updated for result in results] == [0, 0]
    assert retriever.stub.GetBank(request).bank.revision == revision
