"""A page token belongs to one list: of one bank, filtered in one way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from memory3.errors import InvalidArgumentError
from memory3.v1 import bank_admin_pb2, memory_pb2, retriever_pb2
from tests.unit.retriever.calls import refused
from tests.unit.retriever.conftest import RunningRetriever

REFERENCES, SOURCES = retriever_pb2.ListReferencesRequest, retriever_pb2.ListSourcesRequest
SNAPSHOTS = bank_admin_pb2.ListSnapshotsRequest
# Every list that has two pages, under a name of its own.
LISTS: dict[str, tuple[str, Any]] = {
    "banks": ("ListBanks", retriever_pb2.ListBanksRequest()),
    "references": ("ListReferences", REFERENCES(bank="banks/one")),
    "references of a source": ("ListReferences", REFERENCES(bank="banks/one", source="a/")),
    "references of another bank": ("ListReferences", REFERENCES(bank="banks/two")),
    "sources": ("ListSources", SOURCES(bank="banks/one")),
    "sources in a folder": ("ListSources", SOURCES(bank="banks/one", source="a/")),
    "sources of another bank": ("ListSources", SOURCES(bank="banks/two")),
    "snapshots": ("ListSnapshots", SNAPSHOTS()),
    "snapshots of a bank": ("ListSnapshots", SNAPSHOTS(bank="banks/one")),
    "snapshots of another bank": ("ListSnapshots", SNAPSHOTS(bank="banks/two")),
}


def fill(retriever: RunningRetriever, name: str) -> None:
    """A bank of two sources."""
    retriever.create(name)
    references = [memory_pb2.Reference(text=f"text {n}", source=f"a/{n}") for n in range(2)]
    request = retriever_pb2.AddReferencesRequest(bank=f"banks/{name}", references=references)
    list(retriever.stub.AddReferences(iter([request])))


def page(retriever: RunningRetriever, name: str, token: str = "") -> Any:
    """A page of one item."""
    method, request = LISTS[name]
    stub = retriever.admin if method == "ListSnapshots" else retriever.stub
    asked = type(request)()
    asked.CopyFrom(request)
    asked.page_size, asked.page_token = 1, token
    return getattr(stub, method)(asked)


@pytest.fixture
def filled(retriever: RunningRetriever) -> RunningRetriever:
    """Two banks with two snapshots each."""
    for name in ("one", "two"):
        fill(retriever, name)
        for number in "ab":
            request = retriever_pb2.SnapshotBankRequest(
                name=f"banks/{name}", snapshot=f"{name}-{number}"
            )
            retriever.stub.SnapshotBank(request)
    return retriever


def test_a_token_of_another_list_is_refused(filled: RunningRetriever) -> None:
    """Of every list with every other: another bank, another source, another kind."""
    tokens = {name: page(filled, name).next_page_token for name in LISTS}
    assert all(tokens.values())
    for name in LISTS:
        for other, token in tokens.items():
            if name == other:
                page(filled, name, token)
                continue
            error = refused(lambda name=name, token=token: page(filled, name, token))
            assert (type(error), error.field) == (InvalidArgumentError, "page_token"), (name, other)
            assert "start without one" in (error.remedy or "")


@pytest.mark.parametrize("name", ["references", "sources"])
def test_a_token_does_not_outlive_its_bank(filled: RunningRetriever, name: str) -> None:
    """A bank that was made anew under the same name has lists of its own."""
    token = page(filled, name).next_page_token
    filled.stub.DeleteBank(retriever_pb2.DeleteBankRequest(name="banks/one"))
    fill(filled, "one")
    error = refused(lambda: page(filled, name, token))
    assert (type(error), error.field) == (InvalidArgumentError, "page_token")


def test_a_token_goes_on_under_an_alias_of_the_bank(
    filled: RunningRetriever, start_retriever: Callable[..., RunningRetriever]
) -> None:
    """Also after a restart; but not once the alias points at another bank."""
    token = page(filled, "references").next_page_token

    def point(bank: str) -> None:
        request = bank_admin_pb2.SetAliasRequest(name="banks/current", bank=bank)
        again.admin.SetAlias(request)

    again = start_retriever()
    point("banks/one")
    request = REFERENCES(bank="banks/current", page_size=1, page_token=token)
    assert len(again.stub.ListReferences(request).references) == 1
    point("banks/two")
    error = refused(lambda: again.stub.ListReferences(request))
    assert (type(error), error.field) == (InvalidArgumentError, "page_token")
