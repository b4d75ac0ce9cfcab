"""Bad input for every method: a typed error that names the field and the remedy, at once."""

from collections.abc import Iterator
from typing import Any

import pytest

from memory3.errors import InvalidArgumentError, NotFoundError
from memory3.v1 import encoder_pb2, memory_pb2, retriever_pb2
from memory3.v1.retriever_pb2 import Bank, Document, Query, ReferenceIds
from tests.unit.retriever.calls import BANK, add_references, refused
from tests.unit.retriever.conftest import RunningRetriever
from tests.unit.retriever.encoder_double import DIMENSIONS

DIGEST = "0" * 64
BAD_NAMES = ["", "docs", "banks/", "banks/Docs", "banks/1a", "banks/../x", "banks/a/b", "banks/a\n"]
BAD_SNAPSHOTS = ["../x", "/etc", "-a", "A", "a" * 64, "a/b", ".tmp-x", "a\x00"]
BAD_IDS = ["", "x", "F" * 32, "0" * 31, "../" + "0" * 29]
TEXT = Query(text="x")


def _vector(*values: float) -> Query:
    return Query(vector=encoder_pb2.Vector(values=values))


def _named(*ids: str) -> Query:
    return Query(references=ReferenceIds(ids=ids))


def _cases() -> Iterator[tuple[str, dict[str, Any], str]]:
    """Method, fields of its request, field of the error."""
    for name in [*BAD_NAMES, "banks/" + "a" * 64]:
        yield "CreateBank", {"bank": Bank(name=name)}, "bank.name"
        yield "GetBank", {"name": name}, "name"
        yield "DeleteBank", {"name": name, "allow_missing": True}, "name"
        yield "VerifyBank", {"name": name}, "name"
        yield "SnapshotBank", {"name": name}, "name"
        yield "RestoreBank", {"snapshot": "a", "name": name}, "name"
        yield "GetReference", {"bank": name, "id": "0" * 32}, "bank"
        yield "ListReferences", {"bank": name}, "bank"
        yield "ListSources", {"bank": name}, "bank"
        yield "DeleteReferences", {"bank": name, "source": "s"}, "bank"
        yield "Search", {"bank": name, "queries": [TEXT]}, "bank"
        yield (
            "Retrieve",
            {"bank": name, "queries": [TEXT], "checkpoint_digest": DIGEST},
            "bank",
        )
        yield "AddDocuments", {"bank": name, "documents": [Document(text="x")]}, "bank"
        yield "AddReferences", {"bank": name}, "bank"
    good = "banks/new"
    yield "CreateBank", {}, "bank.name"
    yield "CreateBank", {"bank": Bank(name=good, index="nothing")}, "bank.index"
    yield "CreateBank", {"bank": Bank(name=good, index="exact:fast")}, "bank.index"
    yield "CreateBank", {"bank": Bank(name=good, index="hnsw:m=0")}, "bank.index"
    yield "CreateBank", {"bank": Bank(name=good, index="x" * 5000)}, "bank.index"
    yield "CreateBank", {"bank": Bank(name=good, codec="zip")}, "bank.codec"
    yield "CreateBank", {"bank": Bank(name=good, write_policy=9)}, "bank.write_policy"
    yield "CreateBank", {"bank": Bank(name=good, description="x" * 1025)}, "bank.description"
    for size in (-1, 1001, 2**31 - 1):
        yield "ListBanks", {"page_size": size}, "page_size"
        yield "ListReferences", {"bank": BANK, "page_size": size}, "page_size"
        yield "ListSources", {"bank": BANK, "page_size": size}, "page_size"
    for token in ("x", "!!!!", "YmFua3MK", "cmVmZXJlbmNlcwphYWE="):
        yield "ListBanks", {"page_token": token}, "page_token"
        yield "ListReferences", {"bank": BANK, "page_token": token}, "page_token"
        yield "ListSources", {"bank": BANK, "page_token": token}, "page_token"
    for snapshot in BAD_SNAPSHOTS:
        yield "SnapshotBank", {"name": BANK, "snapshot": snapshot}, "snapshot"
        yield "RestoreBank", {"snapshot": snapshot, "name": good}, "snapshot"
    yield "RestoreBank", {"name": good}, "snapshot"
    for bad in BAD_IDS:
        yield "GetReference", {"bank": BANK, "id": bad}, "id"
        yield "DeleteReferences", {"bank": BANK, "ids": ["0" * 32, bad]}, "ids[1]"
        yield from _both({"queries": [_named(bad)]}, "queries[0].references.ids[0]")
        yield "Retrieve", _retrieve(held_ids=[bad]), "held_ids[0]"
    yield "DeleteReferences", {"bank": BANK}, "ids"
    yield "DeleteReferences", {"bank": BANK, "ids": ["0" * 32] * 10_001}, "ids"
    yield from _both({"queries": []}, "queries")
    yield from _both({"queries": [TEXT] * 257}, "queries")
    yield from _both({"queries": [TEXT, Query()]}, "queries[1]")
    yield from _both({"queries": [Query(text="x" * 65_537)]}, "queries[0].text")
    yield from _both({"queries": [_named()]}, "queries[0].references.ids")
    yield from _both({"queries": [_named(*["0" * 32] * 257)]}, "queries[0].references.ids")
    for values in ((), (1.0,), (1.0,) * (DIMENSIONS + 1)):
        yield from _both({"queries": [_vector(*values)]}, "queries[0].vector.values")
    for bad_value in (float("nan"), float("inf"), -float("inf")):
        values = (1.0,) * (DIMENSIONS - 1) + (bad_value,)
        yield from _both({"queries": [_vector(*values)]}, "queries[0].vector.values")
    for k in (-1, 257, 2**31 - 1, -(2**31)):
        yield from _both({"k": k}, "k")
    for digest in ("", "0" * 63, "G" * 64, "F" * 64):
        yield "Retrieve", _retrieve(checkpoint_digest=digest), "checkpoint_digest"
    yield "Retrieve", _retrieve(encode_timeout={"seconds": -1}), "encode_timeout"
    yield "Retrieve", _retrieve(held_ids=["0" * 32] * 65_537), "held_ids"
    yield "AddDocuments", {"bank": BANK}, "documents"
    yield "AddDocuments", {"bank": BANK, "documents": [Document(text="x")] * 257}, "documents"
    large = [Document(text="x" * 1_600_000), Document(text="é" * 800_000)]
    yield "AddDocuments", {"bank": BANK, "documents": large}, "documents"
    yield "AddReferences", {"bank": BANK}, "references"
    many = [memory_pb2.Reference(text="x")] * 1025
    yield "AddReferences", {"bank": BANK, "references": many}, "references"


def _retrieve(**fields: Any) -> dict[str, Any]:
    return {"bank": BANK, "queries": [TEXT], "checkpoint_digest": DIGEST, **fields}


def _both(fields: dict[str, Any], field: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    yield "Search", {"bank": BANK, "queries": [TEXT], **fields}, field
    yield "Retrieve", _retrieve(**fields), field


CASES = list(_cases())


def call(retriever: RunningRetriever, method: str, fields: dict[str, Any]) -> Any:
    """Call a method with a request of these fields."""
    kind = {"ListBanks": "ListBanks", "GetInfo": "RetrieverServiceGetInfo"}.get(method, method)
    request = getattr(retriever_pb2, f"{kind}Request")(**fields)
    behaviour = getattr(retriever.stub, method)
    return behaviour(iter([request]) if method.startswith("Add") else request, timeout=10)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, checkpoint: Any) -> Iterator[RunningRetriever]:
    """One retriever with one bank for the whole table: no bad request changes it."""
    from tests.unit.retriever.encoder_double import EncoderDouble

    encoder = EncoderDouble(checkpoint.digest)
    data = tmp_path_factory.mktemp("shared")
    retriever = RunningRetriever(checkpoint.path, data, encoder.address)
    retriever.create()
    add_references(retriever, "kept text")
    yield retriever
    request = retriever_pb2.GetBankRequest(name=BANK)
    assert retriever.stub.GetBank(request).bank.revision == 1
    assert len(retriever.stub.ListBanks(retriever_pb2.ListBanksRequest()).banks) == 1
    retriever.close()
    encoder.stop()


def test_every_method_is_in_the_table() -> None:
    """Only GetInfo has nothing to get wrong."""
    service = retriever_pb2.DESCRIPTOR.services_by_name["RetrieverService"]
    methods = {method.name for method in service.methods}
    assert methods - {case[0] for case in CASES} == {"GetInfo"}


@pytest.mark.parametrize(
    ("method", "fields", "field"), CASES, ids=[f"{c[0]}-{c[2]}-{n}" for n, c in enumerate(CASES)]
)
def test_bad_input_is_refused(
    shared: RunningRetriever, method: str, fields: dict[str, Any], field: str
) -> None:
    """INVALID_ARGUMENT with field and remedy; no path and no text of ours leaks into it."""
    digest = shared.loaded.models.main.checkpoint.digest
    if fields.get("checkpoint_digest") == DIGEST:
        fields = {**fields, "checkpoint_digest": digest}
    error = refused(lambda: call(shared, method, fields))
    assert type(error) is InvalidArgumentError, error
    assert error.field == field
    assert error.message
    assert error.remedy
    assert len(error.message) < 1000
    assert "/tmp" not in str(error)


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("GetBank", {"name": "banks/none"}),
        ("DeleteBank", {"name": "banks/none"}),
        ("VerifyBank", {"name": "banks/none"}),
        ("SnapshotBank", {"name": "banks/none"}),
        ("RestoreBank", {"name": "banks/new", "snapshot": "none"}),
        ("GetReference", {"bank": "banks/none", "id": "0" * 32}),
        ("GetReference", {"bank": BANK, "id": "0" * 32}),
        ("ListReferences", {"bank": "banks/none"}),
        ("ListSources", {"bank": "banks/none"}),
        ("DeleteReferences", {"bank": "banks/none", "source": "s"}),
        ("Search", {"bank": "banks/none", "queries": [TEXT]}),
        ("Retrieve", {"bank": "banks/none", "queries": [TEXT], "checkpoint_digest": DIGEST}),
        ("AddDocuments", {"bank": "banks/none", "documents": [Document(text="x")]}),
        ("AddReferences", {"bank": "banks/none"}),
    ],
)
def test_what_does_not_exist_is_not_found(
    shared: RunningRetriever, method: str, fields: dict[str, Any]
) -> None:
    """NOT_FOUND naming the resource, for every method that takes a name."""
    error = refused(lambda: call(shared, method, fields))
    assert isinstance(error, NotFoundError)
    assert error.field
    assert error.metadata["resource"]


def test_extreme_parameters_are_refused(shared: RunningRetriever) -> None:
    """However often they come."""
    fields = {"bank": BANK, "queries": [TEXT], "k": 2**31 - 1}
    refused(lambda: call(shared, "Search", fields))
    for _ in range(20):
        refused(lambda: call(shared, "Search", fields))
