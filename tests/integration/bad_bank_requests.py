"""What can be wrong with requests to the retriever, as rows of a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.duration_pb2 import Duration

from memory3.v1 import encoder_pb2 as enc
from memory3.v1 import memory_pb2 as mem
from memory3.v1 import retriever_pb2 as ret
from tests.integration.bad_requests import (
    BANK,
    FOREIGN,
    LONG,
    NAN,
    NO_ID,
    Known,
    Make,
    foreign,
    invalid,
    missing,
    rows,
    taken,
)


def bank(**fields: Any) -> Make:
    """A request to make a bank."""
    return lambda _: ret.CreateBankRequest(bank=ret.Bank(**{"name": "banks/new", **fields}))


def named(message: Any, **fields: Any) -> Make:
    """A request of any kind."""
    return lambda _: message(**fields)


rows(
    "RetrieverService.CreateBank",
    invalid("no-name", "bank.name", bank(name="")),
    invalid("no-prefix", "bank.name", bank(name="new")),
    invalid("upper-case", "bank.name", bank(name="banks/New")),
    invalid("path", "bank.name", bank(name="banks/../../etc")),
    invalid("long-name", "bank.name", bank(name="banks/" + "a" * 64)),
    taken("taken", "bank.name", bank(name=BANK)),
    invalid("index", "bank.index", bank(index="tree")),
    invalid("index-argument", "bank.index", bank(index="hnsw:m=many")),
    invalid("index-surplus", "bank.index", bank(index="exact:m=1")),
    invalid("codec", "bank.codec", bank(codec="zip")),
    invalid("policy", "bank.write_policy", bank(write_policy=9)),
    invalid("description", "bank.description", bank(description="a" * 1025)),
)
for _method, _message in (
    ("GetBank", ret.GetBankRequest),
    ("DeleteBank", ret.DeleteBankRequest),
    ("VerifyBank", ret.VerifyBankRequest),
    ("SnapshotBank", ret.SnapshotBankRequest),
):
    rows(
        f"RetrieverService.{_method}",
        invalid("no-name", "name", named(_message)),
        invalid("name", "name", named(_message, name="banks/a/b")),
        missing("missing", "name", named(_message, name="banks/missing")),
    )
rows(
    "RetrieverService.SnapshotBank",
    invalid("id", "snapshot", named(ret.SnapshotBankRequest, name=BANK, snapshot="../up")),
    taken("taken", "snapshot", named(ret.SnapshotBankRequest, name=BANK, snapshot="kept")),
)
rows(
    "RetrieverService.RestoreBank",
    invalid("no-id", "snapshot", named(ret.RestoreBankRequest, name="banks/new")),
    invalid("id", "snapshot", named(ret.RestoreBankRequest, snapshot="/kept", name="banks/new")),
    missing("missing", "snapshot", named(ret.RestoreBankRequest, snapshot="no", name="banks/new")),
    invalid("name", "name", named(ret.RestoreBankRequest, snapshot="kept", name="new")),
    taken("taken", "name", named(ret.RestoreBankRequest, snapshot="kept", name=BANK)),
)
rows(
    "RetrieverService.ListBanks",
    invalid("size", "page_size", named(ret.ListBanksRequest, page_size=-1)),
    invalid("large", "page_size", named(ret.ListBanksRequest, page_size=1001)),
    invalid("token", "page_token", named(ret.ListBanksRequest, page_token="what")),
)


def add_documents(*documents: ret.Document, bank: str = BANK) -> Make:
    """A request to add documents."""
    return lambda _: ret.AddDocumentsRequest(bank=bank, documents=documents)


def add_references(count: int, bank: str = BANK) -> Make:
    """A request to add so many references."""
    references = [mem.Reference(text="Ada sings.")] * count
    return lambda _: ret.AddReferencesRequest(bank=bank, references=references)


ADA = ret.Document(text="Ada sings.")
rows(
    "RetrieverService.AddDocuments",
    invalid("no-bank", "bank", add_documents(ADA, bank="")),
    missing("missing", "bank", add_documents(ADA, bank="banks/missing")),
    invalid("none", "documents", add_documents()),
    invalid("many", "documents", add_documents(*[ADA] * 257)),
    invalid("bytes", "documents", add_documents(ret.Document(text="a" * (3 * 2**20 + 1)))),
)
rows(
    "RetrieverService.AddReferences",
    invalid("no-bank", "bank", add_references(1, bank="")),
    missing("missing", "bank", add_references(1, bank="banks/missing")),
    invalid("none", "references", add_references(0)),
    invalid("many", "references", add_references(1025)),
)
rows(
    "RetrieverService.GetReference",
    invalid("no-id", "id", named(ret.GetReferenceRequest, bank=BANK)),
    invalid("id", "id", named(ret.GetReferenceRequest, bank=BANK, id="A" * 32)),
    missing("missing", "id", named(ret.GetReferenceRequest, bank=BANK, id=NO_ID)),
    invalid("bank", "bank", named(ret.GetReferenceRequest, bank="known", id=NO_ID)),
    missing("no-bank", "bank", named(ret.GetReferenceRequest, bank="banks/missing", id=NO_ID)),
)
rows(
    "RetrieverService.ListReferences",
    invalid("size", "page_size", named(ret.ListReferencesRequest, bank=BANK, page_size=1001)),
    invalid("token", "page_token", named(ret.ListReferencesRequest, bank=BANK, page_token="é")),
    invalid("bank", "bank", named(ret.ListReferencesRequest)),
    missing("no-bank", "bank", named(ret.ListReferencesRequest, bank="banks/missing")),
)
rows(
    "RetrieverService.ListSources",
    invalid("size", "page_size", named(ret.ListSourcesRequest, bank=BANK, page_size=1001)),
    invalid("token", "page_token", named(ret.ListSourcesRequest, bank=BANK, page_token="é")),
    invalid("bank", "bank", named(ret.ListSourcesRequest)),
    missing("no-bank", "bank", named(ret.ListSourcesRequest, bank="banks/missing")),
)
rows(
    "RetrieverService.DeleteReferences",
    invalid("nothing", "ids", named(ret.DeleteReferencesRequest, bank=BANK)),
    invalid("id", "ids[1]", named(ret.DeleteReferencesRequest, bank=BANK, ids=[NO_ID, "x"])),
    invalid("many", "ids", named(ret.DeleteReferencesRequest, bank=BANK, ids=[NO_ID] * 10_001)),
    invalid(
        "sources", "exact_sources",
        named(ret.DeleteReferencesRequest, bank=BANK, exact_sources=["a"] * 1001),
    ),
    invalid(
        "source", "exact_sources[1]",
        named(ret.DeleteReferencesRequest, bank=BANK, exact_sources=["a", ""]),
    ),
    invalid("bank", "bank", named(ret.DeleteReferencesRequest, ids=[NO_ID])),
    missing(
        "no-bank", "bank", named(ret.DeleteReferencesRequest, bank="banks/missing", ids=[NO_ID])
    ),
)  # fmt: skip


def vector(*values: float) -> ret.Query:
    """A query with a vector."""
    return ret.Query(vector=enc.Vector(values=values))


def ids(*given: str) -> ret.Query:
    """A query that names references."""
    return ret.Query(references=ret.ReferenceIds(ids=given))


TEXT = ret.Query(text="Ada")
WRONG_QUERIES: list[tuple[str, str, str, Callable[[Known], list[ret.Query]]]] = [
    ("no-queries", "INVALID_FIELD", "queries", lambda _: []),
    ("many-queries", "INVALID_FIELD", "queries", lambda _: [TEXT] * 257),
    ("empty-query", "INVALID_FIELD", "queries[1]", lambda _: [TEXT, ret.Query()]),
    ("no-text", "INVALID_FIELD", "queries[0].text", lambda _: [ret.Query(text="")]),
    ("blank-text", "INVALID_FIELD", "queries[0].text", lambda _: [ret.Query(text=" \n")]),
    (
        "long-query", "INVALID_FIELD", "queries[0].text",
        lambda _: [ret.Query(text="a" * 65_537)],
    ),
    ("dimensions", "INVALID_FIELD", "queries[0].vector.values", lambda _: [vector(1.0, 2.0)]),
    (
        "nan", "INVALID_FIELD", "queries[0].vector.values",
        lambda known: [vector(*[NAN] * known.dimensions)],
    ),
    ("no-ids", "INVALID_FIELD", "queries[0].references.ids", lambda _: [ids()]),
    ("bad-id", "INVALID_FIELD", "queries[0].references.ids[0]", lambda _: [ids("x")]),
    (
        "missing-id", "NOT_FOUND", "queries[0].references.ids[1]",
        lambda known: [ids(known.reference_id, NO_ID)],
    ),
]  # fmt: skip


def search(**fields: Any) -> Make:
    """A request to search."""
    return lambda _: ret.SearchRequest(**{"bank": BANK, "queries": [TEXT], **fields})


def retrieve(**fields: Any) -> Make:
    """A request to retrieve."""

    def make(known: Known) -> ret.RetrieveRequest:
        given = {"bank": BANK, "queries": [TEXT], "checkpoint_digest": known.digest, **fields}
        return ret.RetrieveRequest(**given)

    return make


def with_queries(make: Make, find: Callable[[Known], list[ret.Query]]) -> Make:
    """A request with queries that depend on what is in the bank."""

    def changed(known: Known) -> Any:
        request = make(known)
        del request.queries[:]
        request.queries.extend(find(known))
        return request

    return changed


for _method, _make in (("Search", search()), ("Retrieve", retrieve())):
    rows(
        f"RetrieverService.{_method}",
        *(
            (name, "NOT_FOUND" if reason == "NOT_FOUND" else "INVALID_ARGUMENT", reason, field,
             with_queries(_make, find))
            for name, reason, field, find in WRONG_QUERIES
        ),
    )  # fmt: skip
rows(
    "RetrieverService.Search",
    invalid("k", "k", search(k=257)),
    invalid("k-negative", "k", search(k=-1)),
    invalid("bank", "bank", search(bank="")),
    missing("no-bank", "bank", search(bank="banks/missing")),
)
rows(
    "RetrieverService.Retrieve",
    invalid("k", "k", retrieve(k=257)),
    invalid("bank", "bank", retrieve(bank="")),
    missing("no-bank", "bank", retrieve(bank="banks/missing")),
    invalid("no-digest", "checkpoint_digest", retrieve(checkpoint_digest="")),
    invalid("digest", "checkpoint_digest", retrieve(checkpoint_digest="F" * 64)),
    foreign("foreign", retrieve(checkpoint_digest=FOREIGN)),
    invalid("held", "held_ids[0]", retrieve(held_ids=["x"])),
    invalid("many-held", "held_ids", retrieve(held_ids=[NO_ID] * 65_537)),
    invalid("time", "encode_timeout", retrieve(encode_timeout=Duration(seconds=-1))),
)


WRONG_ITEMS: list[tuple[str, str, Any, str, str]] = [
    (
        "blank-document", "AddDocuments",
        ret.AddDocumentsRequest(bank=BANK, documents=[ret.Document(text=" \n")]),
        "REFERENCE_BLANK", "documents[0].text",
    ),
    (
        "long-source", "AddDocuments",
        ret.AddDocumentsRequest(
            bank=BANK, documents=[ret.Document(text="Ada", source="a" * 5000)]
        ),
        "INVALID_FIELD", "documents[0].source",
    ),
    (
        "metadata", "AddDocuments",
        ret.AddDocumentsRequest(
            bank=BANK,
            documents=[ret.Document(text="Ada", metadata={str(i): "" for i in range(65)})],
        ),
        "INVALID_FIELD", "documents[0].metadata",
    ),
    (
        "blank-reference", "AddReferences",
        ret.AddReferencesRequest(bank=BANK, references=[mem.Reference(text="")]),
        "REFERENCE_BLANK", "references[0].text",
    ),
    (
        "long-reference", "AddReferences",
        ret.AddReferencesRequest(bank=BANK, references=[mem.Reference(text=LONG)]),
        "REFERENCE_TOO_LONG", "references[0].text",
    ),
    (
        "huge-reference", "AddReferences",
        ret.AddReferencesRequest(bank=BANK, references=[mem.Reference(text="a" * 65_537)]),
        "REFERENCE_TOO_LONG", "references[0].text",
    ),
    (
        "span", "AddReferences",
        ret.AddReferencesRequest(
            bank=BANK,
            references=[mem.Reference(text="Ada", span=mem.CharacterSpan(start=3, end=2))],
        ),
        "INVALID_FIELD", "references[0].span",
    ),
]  # fmt: skip
