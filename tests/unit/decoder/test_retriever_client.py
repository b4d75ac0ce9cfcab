"""Answers of the retriever are used whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
import pytest
from memory3_decoder.retrieval import RetrieverClient, TextQuery

from memory3.errors import BackendUnavailableError, CorruptDataError, DeadlineExceededError
from memory3.v1 import memory_pb2, retriever_pb2, retriever_pb2_grpc

SENT, HELD = memory_pb2.MEMORY_STATUS_SENT, memory_pb2.MEMORY_STATUS_HELD
Response = retriever_pb2.RetrieveResponse


def result(*hits: tuple[str, memory_pb2.MemoryStatus], index: int = 0) -> Response:
    """The result of a query."""
    return Response(
        result=retriever_pb2.RetrieveResult(
            query_index=index,
            hits=[
                retriever_pb2.RetrieveHit(reference_id=key, memory_status=status)
                for key, status in hits
            ],
            revision=7,
        )
    )


def piece(key: str, offset: int, data: bytes, total: int) -> Response:
    """A piece of a memory."""
    return Response(
        piece=retriever_pb2.MemoryPiece(
            reference_id=key, offset=offset, total_bytes=total, data=data
        )
    )


class Canned(retriever_pb2_grpc.RetrieverServiceServicer):
    """Answers every call with the same messages."""

    def __init__(self) -> None:
        self.responses: list[Response] = []
        self.requests: list[retriever_pb2.RetrieveRequest] = []

    def Retrieve(
        self, request: retriever_pb2.RetrieveRequest, context: grpc.ServicerContext
    ) -> Iterator[Response]:
        """The messages, as they are."""
        self.requests.append(request)
        yield from self.responses


@pytest.fixture
def canned() -> Iterator[tuple[Canned, str]]:
    """A running server and its address."""
    servicer = Canned()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(0).wait()


async def retrieve(address: str, *, num_queries: int = 1, held: tuple[str, ...] = ()):
    """Ask with some queries."""
    client = RetrieverClient(address, "d" * 64, max_envelope_bytes=100)
    try:
        return await client.retrieve(
            "banks/x",
            [TextQuery(f"query {i}") for i in range(num_queries)],
            k=2,
            held_ids=held,
            timeout_s=5.0,
            with_references=True,
        )
    finally:
        await client.close()


async def test_pieces_are_put_together(canned: tuple[Canned, str]) -> None:
    """Memories of several pieces, shared by queries, come whole and once."""
    servicer, address = canned
    servicer.responses = [
        result(("a", SENT), ("b", HELD)),
        result(("a", SENT), index=1),
        piece("a", 0, b"12", 5),
        piece("a", 2, b"345", 5),
    ]
    answer = await retrieve(address, num_queries=2, held=("b",))
    assert [[hit.reference_id for hit in hits] for hits in answer.results] == [["a", "b"], ["a"]]
    assert answer.envelopes == {"a": b"12345"}
    assert answer.revision == 7


async def test_the_request_says_everything(canned: tuple[Canned, str]) -> None:
    """Bank, digest, held ids and a time for encoding below that of the call are sent."""
    servicer, address = canned
    servicer.responses = [result()]
    await retrieve(address, held=("a",))
    (sent,) = servicer.requests
    assert (sent.bank, sent.k, sent.checkpoint_digest) == ("banks/x", 2, "d" * 64)
    assert (list(sent.held_ids), sent.with_references) == (["a"], True)
    assert sent.encode_timeout.ToMilliseconds() == 4000


BROKEN: dict[str, Callable[[], list[Response]]] = {
    "no result": lambda: [],
    "too many results": lambda: [result(), result(index=1)],
    "out of order": lambda: [result(index=1)],
    "promised, not sent": lambda: [result(("a", SENT))],
    "half a memory": lambda: [result(("a", SENT)), piece("a", 0, b"12", 5)],
    "a gap": lambda: [result(("a", SENT)), piece("a", 1, b"2345", 5)],
    "another size": lambda: [result(("a", SENT)), piece("a", 0, b"1", 2), piece("a", 1, b"2", 3)],
    "more than said": lambda: [result(("a", SENT)), piece("a", 0, b"123", 2)],
    "larger than any": lambda: [result(("a", SENT)), piece("a", 0, b"1", 101)],
    "negative size": lambda: [result(("a", SENT)), piece("a", 0, b"", -1)],
    "held by nobody": lambda: [result(("a", HELD))],
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_answer_is_refused(canned: tuple[Canned, str], name: str) -> None:
    """Every contradiction is a typed error, never half an answer."""
    servicer, address = canned
    servicer.responses = BROKEN[name]()
    with pytest.raises(CorruptDataError):
        await retrieve(address)


async def test_nobody_there_is_unavailable() -> None:
    """A port where nothing listens is a typed error within the time given."""
    with pytest.raises((BackendUnavailableError, DeadlineExceededError)):
        await retrieve("127.0.0.1:1")
