"""An encoder without a model, for adding while querying: made-up vectors and memories at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc
import numpy as np

from benchmarks.retriever.data import envelope_of, vectors_of
from benchmarks.retriever.filling import EMBEDDER
from memory3.v1 import encoder_pb2, encoder_pb2_grpc, memory_pb2


class MadeUp(encoder_pb2_grpc.EncoderServiceServicer):
    """Answers as an encoder would whose model costs nothing."""

    def __init__(self, digest: str) -> None:
        self._digest = digest

    def Encode(  # noqa: N802 - gRPC names methods as the proto does
        self, request: encoder_pb2.EncodeRequest, context: grpc.ServicerContext
    ) -> Iterator[encoder_pb2.EncodeResponse]:
        """One response for each reference."""
        numbers = [_number_of(reference.text) for reference in request.references]
        rows = vectors_of(np.array(numbers, dtype=np.int64))
        for index, (reference, number) in enumerate(zip(request.references, numbers, strict=True)):
            response = encoder_pb2.EncodeResponse(index=index)
            response.memory.reference_id = reference.id
            response.memory.envelope = envelope_of(number, self._digest)
            response.vector.values.extend(rows[index].tolist())
            yield response

    def Embed(  # noqa: N802 - the same
        self, request: encoder_pb2.EmbedRequest, context: grpc.ServicerContext
    ) -> encoder_pb2.EmbedResponse:
        """One vector for each text."""
        rows = vectors_of(np.array([_number_of(text) for text in request.texts], dtype=np.int64))
        return encoder_pb2.EmbedResponse(
            vectors=[encoder_pb2.Vector(values=row.tolist()) for row in rows]
        )

    def GetInfo(  # noqa: N802 - the same
        self, request: encoder_pb2.EncoderServiceGetInfoRequest, context: grpc.ServicerContext
    ) -> encoder_pb2.EncoderServiceGetInfoResponse:
        """The identities that the bank was made with."""
        return encoder_pb2.EncoderServiceGetInfoResponse(
            checkpoint=memory_pb2.CheckpointInfo(digest=self._digest),
            embedder=encoder_pb2.EmbedderInfo(
                name=EMBEDDER.name, digest=EMBEDDER.digest, dimensions=EMBEDDER.dimensions
            ),
            default_codec="raw",
            codecs=["raw"],
        )


@contextmanager
def made_up_encoder(digest: str) -> Iterator[str]:
    """A running one; gives its address."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    encoder_pb2_grpc.add_EncoderServiceServicer_to_server(MadeUp(digest), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def _number_of(text: str) -> int:
    found = re.search(r"number (\d+)", text)
    return int(found.group(1)) if found else 0
