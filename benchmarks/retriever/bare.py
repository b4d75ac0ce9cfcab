"""The least that gRPC itself costs: ``python -m benchmarks.retriever.bare PORT_FILE``.

A server of the same kind as the retriever's (threads, generated messages) whose Retrieve answers
with one result and as many pieces, of as many bytes, as the request's ``k`` and ``bank`` say. As in
a bank, no piece is the one before: bytes that stay in the processor's cache would cost less.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc

from memory3.v1 import retriever_pb2, retriever_pb2_grpc

_NUM_PIECES = 2000


class Bare(retriever_pb2_grpc.RetrieverServiceServicer):
    """Sends bytes that are in memory already."""

    def __init__(self) -> None:
        self._pieces: dict[int, Iterator[bytes]] = {}

    def Retrieve(  # noqa: N802 - gRPC names methods as the proto does
        self, request: retriever_pb2.RetrieveRequest, context: grpc.ServicerContext
    ) -> Iterator[retriever_pb2.RetrieveResponse]:
        """One result, then ``k`` pieces of ``bank`` bytes."""
        size = int(request.bank)
        if size not in self._pieces:
            self._pieces[size] = itertools.cycle([os.urandom(size) for _ in range(_NUM_PIECES)])
        yield retriever_pb2.RetrieveResponse(result=retriever_pb2.RetrieveResult())
        pieces = itertools.islice(self._pieces[size], request.k)
        for number, data in enumerate(pieces):
            response = retriever_pb2.RetrieveResponse()
            response.piece.reference_id, response.piece.total_bytes = f"{number:032x}", size
            response.piece.data = data
            yield response


def main() -> None:
    """Serve until killed."""
    server = grpc.server(futures.ThreadPoolExecutor(16))
    retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(Bare(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    Path(sys.argv[1]).write_text(str(port))
    server.wait_for_termination()


if __name__ == "__main__":
    main()
