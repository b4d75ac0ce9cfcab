"""An encoder without a model: ``python -m benchmarks.retriever.encoder DIGEST PORT_FILE``.

A process of its own, as the real one is. Its vectors and memories are made before it is asked, so
that what is measured beside it is the retriever and not this.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np

from benchmarks.retriever.data import envelope_of, vectors_of
from benchmarks.retriever.filling import EMBEDDER
from memory3.v1 import encoder_pb2, encoder_pb2_grpc, memory_pb2

_NUM_MADE = 2000
# Numbers of references that no bank here has.
_FIRST = 1 << 41


class MadeUp(encoder_pb2_grpc.EncoderServiceServicer):
    """Answers as an encoder would whose model costs nothing."""

    def __init__(self, digest: str) -> None:
        self._digest = digest
        rows = vectors_of(np.arange(_FIRST, _FIRST + _NUM_MADE))
        vectors = [encoder_pb2.Vector(values=row.tolist()) for row in rows]
        envelopes = [envelope_of(number, digest) for number in range(_NUM_MADE)]
        self._made = itertools.cycle(zip(vectors, envelopes, strict=True))

    def Encode(  # noqa: N802 - gRPC names methods as the proto does
        self, request: encoder_pb2.EncodeRequest, context: grpc.ServicerContext
    ) -> Iterator[encoder_pb2.EncodeResponse]:
        """One response for each reference."""
        for index, reference in enumerate(request.references):
            vector, envelope = next(self._made)
            response = encoder_pb2.EncodeResponse(index=index, vector=vector)
            response.memory.reference_id, response.memory.envelope = reference.id, envelope
            yield response

    def Embed(  # noqa: N802 - the same
        self, request: encoder_pb2.EmbedRequest, context: grpc.ServicerContext
    ) -> encoder_pb2.EmbedResponse:
        """One vector for each text."""
        vectors = [next(self._made)[0] for _ in request.texts]
        return encoder_pb2.EmbedResponse(vectors=vectors)

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


def main() -> None:
    """Serve until killed."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    encoder_pb2_grpc.add_EncoderServiceServicer_to_server(MadeUp(sys.argv[1]), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    Path(sys.argv[2]).write_text(str(port))
    server.wait_for_termination()


if __name__ == "__main__":
    main()
