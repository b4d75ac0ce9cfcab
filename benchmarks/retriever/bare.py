"""The least that gRPC itself costs: ``python -m benchmarks.retriever.bare PORT_FILE``.

A server of the same kind as the retriever's (threads, generated messages) whose Retrieve answers
with one result and as many pieces, of as many bytes, as the request's ``k`` and ``bank`` say.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc

from memory3.v1 import retriever_pb2, retriever_pb2_grpc


class Bare(retriever_pb2_grpc.RetrieverServiceServicer):
    """Sends bytes that are in memory already."""

    _data = bytes(range(256)) * 4096

    def Retrieve(  # noqa: N802 - gRPC names methods as the proto does
        self, request: retriever_pb2.RetrieveRequest, context: grpc.ServicerContext
    ) -> Iterator[retriever_pb2.RetrieveResponse]:
        """One result, then ``k`` pieces of ``bank`` bytes."""
        size = int(request.bank)
        yield retriever_pb2.RetrieveResponse(result=retriever_pb2.RetrieveResult())
        for number in range(request.k):
            piece = retriever_pb2.MemoryPiece(
                reference_id=f"{number:032x}", total_bytes=size, data=self._data[:size]
            )
            yield retriever_pb2.RetrieveResponse(piece=piece)


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
