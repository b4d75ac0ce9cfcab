"""A caller that does not know whether it was heard may ask again, as often as it likes."""

from __future__ import annotations

from collections.abc import Callable

from memory3.v1 import memory_pb2, retriever_pb2
from tests.unit.retriever.calls import BANK
from tests.unit.retriever.conftest import RunningRetriever
from tests.unit.retriever.encoder_double import EncoderDouble

REPLAYS = 100
SAME = (("x-request-id", "once"),)


def test_a_hundred_replays_have_one_effect(
    retriever: RunningRetriever, encoder: EncoderDouble
) -> None:
    """Of each changing call under one request id: same revision, same content, no work again."""
    stub = retriever.stub
    retriever.create()
    document = retriever_pb2.Document(text="Ada lives in Turin.", source="ada", metadata={"a": "b"})
    documents = retriever_pb2.AddDocumentsRequest(bank=BANK, documents=[document])
    replacing = retriever_pb2.AddDocumentsRequest(bank=BANK, documents=[document], replace=True)
    references = retriever_pb2.AddReferencesRequest(
        bank=BANK, references=[memory_pb2.Reference(text="Grace lives in Arlington.")]
    )
    deleting = retriever_pb2.DeleteReferencesRequest(bank=BANK, source="ada")
    changes: list[Callable[[], object]] = [
        lambda: list(stub.AddDocuments(iter([documents]), metadata=SAME)),
        lambda: list(stub.AddDocuments(iter([replacing]), metadata=SAME)),
        lambda: list(stub.AddReferences(iter([references]), metadata=SAME)),
        lambda: stub.DeleteReferences(deleting, metadata=SAME),
    ]
    seen = []
    for change in changes:
        change()
        bank = stub.GetBank(retriever_pb2.GetBankRequest(name=BANK)).bank
        encoded = encoder.calls["Encode"]
        for _ in range(REPLAYS - 1):
            change()
        assert stub.GetBank(retriever_pb2.GetBankRequest(name=BANK)).bank == bank
        assert encoder.calls["Encode"] == encoded
        seen.append(bank.statistics.num_references)
    assert seen == [1, 1, 2, 1]
