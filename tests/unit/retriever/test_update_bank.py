"""The options of a bank that can be changed, when it is made and afterwards."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from memory3.errors import InvalidArgumentError, NotFoundError, QuotaExceededError
from memory3.v1 import bank_admin_pb2, memory_pb2, retriever_pb2
from tests.unit.retriever.calls import (
    BANK,
    add_documents,
    add_references,
    refused,
    retrieve,
    text_query,
)
from tests.unit.retriever.conftest import RunningRetriever
from tests.unit.retriever.encoder_double import EncoderDouble


def update(retriever: RunningRetriever, paths: Sequence[str], **fields: Any) -> retriever_pb2.Bank:
    """Change options of the bank."""
    bank = retriever_pb2.Bank(**{"name": BANK, **fields})
    request = bank_admin_pb2.UpdateBankRequest(bank=bank, update_mask=FieldMask(paths=paths))
    return retriever.admin.UpdateBank(request).bank


def options(bank: retriever_pb2.Bank) -> tuple[Any, ...]:
    """What can be changed of a bank."""
    ttl = bank.default_ttl.seconds if bank.HasField("default_ttl") else None
    return (bank.description, bank.quota_bytes, ttl, bank.durability)


def described(retriever: RunningRetriever) -> retriever_pb2.Bank:
    """The bank."""
    return retriever.stub.GetBank(retriever_pb2.GetBankRequest(name=BANK)).bank


def test_options_are_kept_when_a_bank_is_made(
    start_retriever: Callable[..., RunningRetriever],
) -> None:
    """All of them, and after a restart."""
    made = start_retriever().create(
        description="for people",
        quota_bytes=10**9,
        default_ttl=Duration(seconds=60),
        durability=retriever_pb2.DURABILITY_ASYNC,
    )
    expected = ("for people", 10**9, 60, retriever_pb2.DURABILITY_ASYNC)
    assert options(made) == expected
    assert options(described(start_retriever())) == expected


def test_only_what_the_mask_names_changes(
    start_retriever: Callable[..., RunningRetriever],
) -> None:
    """Everything else stays, the content and its revision too; after a restart as well."""
    retriever = start_retriever()
    retriever.create(description="before", quota_bytes=10**9)
    add_references(retriever, "Ada sails.")
    revision = described(retriever).revision
    fields = {
        "description": "after",
        "quota_bytes": 5,
        "default_ttl": Duration(seconds=3),
        "durability": retriever_pb2.DURABILITY_ASYNC,
    }
    changed = update(retriever, ["default_ttl", "durability"], **fields)
    expected = ("before", 10**9, 3, retriever_pb2.DURABILITY_ASYNC)
    assert options(changed) == options(described(retriever)) == expected
    add_references(retriever, "Ben rows.")
    again = start_retriever()
    assert options(described(again)) == expected
    assert described(again).revision == revision + 1
    cleared = update(again, ["default_ttl", "durability", "quota_bytes", "description"])
    assert options(cleared) == ("", 0, None, retriever_pb2.DURABILITY_FSYNC)
    assert described(again).statistics.num_references == 2


def test_a_quota_is_kept_and_can_be_raised(
    retriever: RunningRetriever, encoder: EncoderDouble
) -> None:
    """An addition that would pass it is refused with both numbers, and changes nothing."""
    retriever.create(quota_bytes=6000)
    encoder.payload_bytes = 2048
    add_references(retriever, "Ada sails.")
    before = described(retriever)
    assert 2048 < before.statistics.used_bytes < 6000
    error = refused(lambda: add_lazily(retriever, "Ben rows.", "Cyd drives."))
    assert isinstance(error, QuotaExceededError)
    assert error.metadata["used"] == str(before.statistics.used_bytes)
    assert error.metadata["quota"] == "6000"
    assert described(retriever) == before
    update(retriever, ["quota_bytes"], quota_bytes=100_000)
    add_references(retriever, "Ben rows.", "Cyd drives.")
    update(retriever, ["quota_bytes"], quota_bytes=1)
    encoded = encoder.calls["Encode"]
    assert isinstance(refused(lambda: add_lazily(retriever, "Dan runs.")), QuotaExceededError)
    assert encoder.calls["Encode"] == encoded
    # What is there already needs no room.
    add_references(retriever, "Ben rows.")
    assert described(retriever).statistics.num_references == 3


def add_lazily(retriever: RunningRetriever, *texts: str) -> Any:
    """The answers of a request, unread."""
    documents = [retriever_pb2.Document(text=text) for text in texts]
    request = retriever_pb2.AddDocumentsRequest(bank=BANK, documents=documents)
    return retriever.stub.AddDocuments(iter([request]))


def test_a_late_memory_above_the_quota_is_left_out(
    retriever: RunningRetriever, encoder: EncoderDouble
) -> None:
    """A lazy bank that is full still finds; with a larger quota the memory is written."""
    retriever.create(write_policy="WRITE_POLICY_LAZY", quota_bytes=3000)
    (added,) = add_references(retriever, "Ada sails.")
    encoder.payload_bytes = 8192
    left_out = retrieve(retriever, text_query("Ada"))
    assert left_out.statuses == {added.id: memory_pb2.MEMORY_STATUS_LEFT_OUT}
    assert described(retriever).statistics.num_memories == 0
    update(retriever, ["quota_bytes"], quota_bytes=100_000)
    assert retrieve(retriever, text_query("Ada")).envelopes.keys() == {added.id}


def test_documents_within_the_quota_are_added(retriever: RunningRetriever) -> None:
    """A quota in itself refuses nothing."""
    retriever.create(quota_bytes=10**6)
    (result,) = add_documents(retriever, "Ada sails.")
    assert result.num_added == 1


@pytest.mark.parametrize(
    ("paths", "fields", "field"),
    [
        ([], {}, "update_mask"),
        (["name"], {}, "update_mask.paths[0]"),
        (["description", "codec"], {}, "update_mask.paths[1]"),
        (["quota_bytes"], {"quota_bytes": -1}, "bank.quota_bytes"),
        (["default_ttl"], {"default_ttl": Duration(seconds=-1)}, "bank.default_ttl"),
        (["durability"], {"durability": 9}, "bank.durability"),
        (["description"], {"description": "x" * 1025}, "bank.description"),
        (["description"], {"name": "docs"}, "bank.name"),
    ],
)
def test_wrong_updates_change_nothing(
    retriever: RunningRetriever, paths: list[str], fields: dict[str, Any], field: str
) -> None:
    """Each names its field and what to do."""
    retriever.create(description="before")
    error = refused(lambda: update(retriever, paths, **fields))
    assert (type(error), error.field) == (InvalidArgumentError, field)
    assert error.remedy
    assert options(described(retriever)) == ("before", 0, None, retriever_pb2.DURABILITY_FSYNC)


def test_a_missing_bank_cannot_be_changed(retriever: RunningRetriever) -> None:
    """It is not made by that."""
    assert isinstance(refused(lambda: update(retriever, ["description"])), NotFoundError)


@pytest.mark.parametrize(
    ("condition", "field"),
    [
        (retriever_pb2.Condition(key="a"), "filter.conditions[0]"),
        (
            retriever_pb2.Condition(key="a", range=retriever_pb2.Range()),
            "filter.conditions[0].range",
        ),
        (retriever_pb2.Condition(key="a", equals="x" * 20_000), "filter.conditions[0].equals"),
        (
            retriever_pb2.Condition(
                key="a", any_of=retriever_pb2.Values(values=map(str, range(1001)))
            ),
            "filter.conditions[0].any_of.values",
        ),
    ],
)
def test_wrong_filters_are_refused(
    retriever: RunningRetriever, condition: retriever_pb2.Condition, field: str
) -> None:
    """By Search and Retrieve alike."""
    retriever.create()
    where = retriever_pb2.Filter(conditions=[condition])
    query = [retriever_pb2.Query(text="Ada")]
    searching = retriever_pb2.SearchRequest(bank=BANK, queries=query, filter=where)
    retrieving = retriever_pb2.RetrieveRequest(
        bank=BANK,
        queries=query,
        filter=where,
        checkpoint_digest=retriever.loaded.models.main.checkpoint.digest,
    )
    for call in (
        lambda: retriever.stub.Search(searching),
        lambda: retriever.stub.Retrieve(retrieving),
    ):
        error = refused(call)
        assert (type(error), error.field) == (InvalidArgumentError, field)
