"""What becomes of references that are in the bank already: skip, overwrite, fail."""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from memory3.errors import InvalidArgumentError
from memory3.v1 import memory_pb2, retriever_pb2
from tests.unit.retriever.calls import (
    BANK,
    add_documents,
    add_references,
    refused,
    retrieve,
    search,
    text_query,
)
from tests.unit.retriever.conftest import RunningRetriever
from tests.unit.retriever.encoder_double import EncoderDouble

SKIP = retriever_pb2.DUPLICATE_POLICY_SKIP
OVERWRITE = retriever_pb2.DUPLICATE_POLICY_OVERWRITE
FAIL = retriever_pb2.DUPLICATE_POLICY_FAIL


def add(
    retriever: RunningRetriever, policy: Any, *references: memory_pb2.Reference
) -> list[retriever_pb2.AddReferenceResult]:
    """Add references under a policy."""
    request = retriever_pb2.AddReferencesRequest(
        bank=BANK, references=references, duplicate_policy=policy
    )
    (response,) = retriever.stub.AddReferences(iter([request]))
    return list(response.results)


def metadata(retriever: RunningRetriever, id: str) -> dict[str, str]:
    """The metadata of a reference."""
    request = retriever_pb2.GetReferenceRequest(bank=BANK, id=id)
    return dict(retriever.stub.GetReference(request).reference.metadata)


def of_lang(lang: str) -> retriever_pb2.Filter:
    """Only these."""
    return retriever_pb2.Filter(conditions=[retriever_pb2.Condition(key="lang", equals=lang)])


@pytest.mark.parametrize("policy", [retriever_pb2.DUPLICATE_POLICY_UNSPECIFIED, SKIP])
def test_skipping_leaves_it_as_it_is(retriever: RunningRetriever, policy: Any) -> None:
    """The first metadata stay, also within one request."""
    retriever.create()
    first = memory_pb2.Reference(text="Ada sails.", metadata={"lang": "en"})
    second = memory_pb2.Reference(text="Ada sails.", metadata={"lang": "de"})
    results = add(retriever, policy, first, second)
    assert [each.added for each in results] == [True, False]
    assert [each.added for each in add(retriever, policy, second)] == [False]
    assert metadata(retriever, results[0].id) == {"lang": "en"}


@pytest.mark.parametrize("write_policy", ["WRITE_POLICY_EAGER", "WRITE_POLICY_LAZY"])
def test_overwriting_writes_everything_anew(
    retriever: RunningRetriever, encoder: EncoderDouble, write_policy: str
) -> None:
    """Metadata, expiry, vector and memory; filters and the cache follow."""
    retriever.create(write_policy=write_policy)
    (added,) = add_references(retriever, "Ada sails.", metadata={"lang": "en"})
    created = reference(retriever, added.id).create_time
    before = retrieve(retriever, text_query("Ada")).envelopes[added.id]
    encoder.payload_bytes = 5000
    expiry = Timestamp(seconds=9_000_000_000)
    again = memory_pb2.Reference(text="Ada sails.", metadata={"lang": "de"}, expire_time=expiry)
    (result,) = add(retriever, OVERWRITE, again)
    assert (result.id, result.added, result.HasField("error")) == (added.id, False, False)
    assert metadata(retriever, added.id) == {"lang": "de"}
    assert reference(retriever, added.id).expire_time == expiry
    assert reference(retriever, added.id).create_time == created
    after = retrieve(retriever, text_query("Ada")).envelopes[added.id]
    assert len(after) > len(before) + 1000
    assert search(retriever, "Ada", filter=of_lang("de")) == [["Ada sails."]]
    assert search(retriever, "Ada", filter=of_lang("en")) == [[]]
    bank = retriever.loaded.catalog.get("docs")
    assert bank.verify().problems == []
    assert bank.store.statistics().num_references == 1


def test_overwriting_documents_counts_them_as_existing(retriever: RunningRetriever) -> None:
    """And what only one of them has stays: nothing is replaced by source."""
    retriever.create()
    old = retriever_pb2.Document(text="# A\n\nAda sails.\n\n# B\n\nBen rows.", source="a")
    new = retriever_pb2.Document(text="# A\n\nAda sails.", source="a", metadata={"lang": "en"})
    add_documents(retriever, old)
    (result,) = add_documents(retriever, new, duplicate_policy=OVERWRITE)
    assert (result.num_added, result.num_existing, result.num_removed) == (0, 1, 0)
    assert search(retriever, "Ada", filter=of_lang("en")) == [["Ada sails."]]
    assert len(search(retriever, "Ada")[0]) == 2


def test_failing_refuses_references_one_by_one(
    retriever: RunningRetriever, encoder: EncoderDouble
) -> None:
    """The others are added; a second one of a request finds the first there."""
    retriever.create()
    add_references(retriever, "Ada sails.")
    texts = ("Ada sails.", "Ben rows.", "Ben rows.")
    results = add(retriever, FAIL, *(memory_pb2.Reference(text=text) for text in texts))
    assert [each.error.reason for each in results] == ["ALREADY_EXISTS", "", "ALREADY_EXISTS"]
    assert [each.error.field for each in results] == ["references[0]", "", "references[2]"]
    assert [each.added for each in results] == [False, True, False]
    assert encoder.encoded["Ada sails."] == 1


def test_failing_refuses_a_document_with_one_that_is_there(retriever: RunningRetriever) -> None:
    """Wholly: nothing of it is added, the documents beside it are."""
    retriever.create()
    add_documents(retriever, retriever_pb2.Document(text="# A\n\nAda sails.", source="a"))
    results = add_documents(
        retriever,
        retriever_pb2.Document(text="# A\n\nAda sails.\n\n# B\n\nBen rows.", source="a"),
        retriever_pb2.Document(text="Cyd drives.", source="c"),
        retriever_pb2.Document(text="Cyd drives.", source="c"),
        duplicate_policy=FAIL,
    )
    assert [each.error.reason for each in results] == ["ALREADY_EXISTS", "", "ALREADY_EXISTS"]
    assert [each.num_added for each in results] == [0, 1, 0]
    assert set(search(retriever, "Ben rows.")[0]) == {"Ada sails.", "Cyd drives."}


def test_replacing_and_a_policy_exclude_each_other(retriever: RunningRetriever) -> None:
    """Both say what becomes of what is there."""
    retriever.create()
    error = refused(lambda: add_documents_raw(retriever, replace=True, duplicate_policy=OVERWRITE))
    assert (type(error), error.field) == (InvalidArgumentError, "duplicate_policy")
    error = refused(lambda: add_documents_raw(retriever, duplicate_policy=77))
    assert (type(error), error.field) == (InvalidArgumentError, "duplicate_policy")


def add_documents_raw(retriever: RunningRetriever, **fields: Any) -> Any:
    """The answers of a request, unread."""
    documents = [retriever_pb2.Document(text="Ada sails.", source="a")]
    request = retriever_pb2.AddDocumentsRequest(bank=BANK, documents=documents, **fields)
    return retriever.stub.AddDocuments(iter([request]))


def reference(retriever: RunningRetriever, id: str) -> memory_pb2.Reference:
    """A reference as it is handed out."""
    request = retriever_pb2.GetReferenceRequest(bank=BANK, id=id)
    return retriever.stub.GetReference(request).reference
