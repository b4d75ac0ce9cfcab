"""Short ways to call a running retriever."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
import pytest

from memory3.errors import Memory3Error
from memory3.rpc.status import from_rpc_error
from memory3.v1 import memory_pb2, retriever_pb2
from tests.unit.retriever.conftest import RunningRetriever

BANK = "banks/docs"


def refused(call: Any) -> Memory3Error:
    """The typed error that a call ends with."""
    with pytest.raises(grpc.RpcError) as raised:
        result = call()
        # A streaming call fails when it is read.
        for _ in result if hasattr(result, "__next__") else ():
            pass
    return from_rpc_error(raised.value)


def add_documents(
    retriever: RunningRetriever,
    *documents: retriever_pb2.Document | str,
    replace: bool = False,
    **fields: Any,
) -> list[retriever_pb2.AddDocumentResult]:
    """Add whole texts in one request."""
    messages = [
        retriever_pb2.Document(text=each) if isinstance(each, str) else each for each in documents
    ]
    request = retriever_pb2.AddDocumentsRequest(
        bank=BANK, documents=messages, replace=replace, **fields
    )
    (response,) = retriever.stub.AddDocuments(iter([request]))
    return list(response.results)


def add_references(
    retriever: RunningRetriever, *texts: str, **fields: Any
) -> list[retriever_pb2.AddReferenceResult]:
    """Add references in one request."""
    messages = [memory_pb2.Reference(text=text, **fields) for text in texts]
    request = retriever_pb2.AddReferencesRequest(bank=BANK, references=messages)
    (response,) = retriever.stub.AddReferences(iter([request]))
    return list(response.results)


def text_query(text: str) -> retriever_pb2.Query:
    """Look for what is like a text."""
    return retriever_pb2.Query(text=text)


def named_query(*ids: str) -> retriever_pb2.Query:
    """Take these references."""
    return retriever_pb2.Query(references=retriever_pb2.ReferenceIds(ids=ids))


def search(retriever: RunningRetriever, *texts: str, k: int = 0, **fields: Any) -> list[list[str]]:
    """The texts found for each query."""
    queries = [text_query(text) for text in texts]
    request = retriever_pb2.SearchRequest(bank=BANK, queries=queries, k=k, **fields)
    results = retriever.stub.Search(request).results
    return [[hit.reference.text for hit in result.hits] for result in results]


class Retrieved:
    """The answer to Retrieve, put together."""

    def __init__(self, responses: Iterable[retriever_pb2.RetrieveResponse]) -> None:
        self.results: list[retriever_pb2.RetrieveResult] = []
        self.envelopes: dict[str, bytes] = {}
        self.num_pieces = 0
        for response in responses:
            if response.WhichOneof("part") == "result":
                assert not self.envelopes, "a result came after a piece"
                self.results.append(response.result)
            else:
                piece = response.piece
                so_far = self.envelopes.get(piece.reference_id, b"")
                assert piece.offset == len(so_far)
                assert 0 < len(piece.data) <= 512 << 10
                self.envelopes[piece.reference_id] = so_far + piece.data
                assert len(self.envelopes[piece.reference_id]) <= piece.total_bytes
                self.num_pieces += 1

    @property
    def statuses(self) -> dict[str, int]:
        """What became of each memory."""
        return {
            hit.reference_id: hit.memory_status for result in self.results for hit in result.hits
        }


def retrieve(
    retriever: RunningRetriever,
    *queries: retriever_pb2.Query,
    digest: str | None = None,
    timeout: float | None = None,
    **fields: Any,
) -> Retrieved:
    """Find memories with the retriever's own checkpoint."""
    request = retriever_pb2.RetrieveRequest(
        bank=BANK,
        queries=queries,
        checkpoint_digest=retriever.loaded.models.main.checkpoint.digest
        if digest is None
        else digest,
        **fields,
    )
    return Retrieved(retriever.stub.Retrieve(request, timeout=timeout))
