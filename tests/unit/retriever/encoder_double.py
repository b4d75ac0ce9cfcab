"""An encoder as a peer over real sockets: deterministic memories and vectors from text hashes.

It keeps EncoderService's promises without a model, and can be told to be slow, to fail, or to be
of another checkpoint.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent import futures

import grpc
import numpy as np

from memory3.embedders.base import search_text
from memory3.errors import CheckpointMismatchError, Memory3Error
from memory3.memory.envelope import Envelope, pack
from memory3.rpc.status import abort_with
from memory3.v1 import encoder_pb2, encoder_pb2_grpc, memory_pb2

DIMENSIONS = 32
SHAPE = (2, 2, 2, 8, 16)


def vector_of(text: str) -> np.ndarray:
    """The sum of a random direction for each word: texts that share words are near each other."""
    vector = np.zeros(DIMENSIONS, dtype=np.float32)
    for word in filter(None, (word.strip(".,:;!?") for word in text.lower().split())):
        digest = hashlib.sha256(word.encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        vector += rng.normal(size=DIMENSIONS).astype(np.float32)
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector


def envelope_of(text: str, digest: str, payload_bytes: int = 0) -> bytes:
    """The memory of a text: a well-formed envelope whose payload is made of the text's hash."""
    size = payload_bytes or int(np.prod(SHAPE)) * 2
    block = hashlib.sha512(text.encode()).digest()
    payload = (block * (size // len(block) + 1))[:size]
    positions = np.tile(np.arange(8, dtype=np.uint8), (SHAPE[0], SHAPE[2], 1))
    return pack(Envelope(digest, "raw", "bfloat16", SHAPE, 8, positions, payload))


class EncoderDouble(encoder_pb2_grpc.EncoderServiceServicer):
    """A running encoder.

    Attributes:
        checkpoint_digest: What it says to have loaded, and writes into memories.
        embedder_digest: The same for the embedder.
        payload_bytes: The size of a memory's payload; 0 for that of the shape.
        embed_delay_s: How long each Embed takes.
        failure: What every call but GetInfo ends with, if anything.
        gate: Encode waits for it.
        calls: How often each method was called.
        encoded: How often each text was encoded.
        refused: Texts that cannot be encoded.
        address: Where it listens.
    """

    def __init__(self, checkpoint_digest: str, address: str = "127.0.0.1:0") -> None:
        self.checkpoint_digest = checkpoint_digest
        self.embedder_digest = "e" * 64
        self.dimensions = DIMENSIONS
        self.payload_bytes = 0
        self.embed_delay_s = 0.0
        self.failure: Memory3Error | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.calls: Counter[str] = Counter()
        self.encoded: Counter[str] = Counter()
        self.refused: set[str] = set()
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(address)
        assert port
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def stop(self) -> None:
        """End it as a crash would: calls in flight are cut off."""
        stopped = self._server.stop(0)
        # Calls that wait at the gate are cut off first, or they could still answer.
        stopped.wait(0.5)
        self.gate.set()
        stopped.wait()

    def Encode(
        self, request: encoder_pb2.EncodeRequest, context: grpc.ServicerContext
    ) -> Iterator[encoder_pb2.EncodeResponse]:
        self._begin("Encode", context)
        if request.checkpoint_digest not in ("", self.checkpoint_digest):
            abort_with(
                context,
                CheckpointMismatchError(
                    "the encoder has another checkpoint",
                    field="checkpoint_digest",
                    remedy="start it with the right one",
                    expected=self.checkpoint_digest,
                    actual=request.checkpoint_digest,
                ),
            )
        self.gate.wait(30)
        # Backwards, for the contract promises no order.
        for index, reference in reversed(list(enumerate(request.references))):
            with self._lock:
                self.encoded[reference.text] += 1
            response = encoder_pb2.EncodeResponse(index=index)
            if reference.text in self.refused:
                response.error.reason = "REFERENCE_BLANK"
                response.error.message = "the reference has no text to encode"
            else:
                response.memory.reference_id = reference.id
                response.memory.envelope = envelope_of(
                    reference.text, self.checkpoint_digest, self.payload_bytes
                )
                response.vector.values.extend(self._vector(reference))
            yield response

    def Embed(
        self, request: encoder_pb2.EmbedRequest, context: grpc.ServicerContext
    ) -> encoder_pb2.EmbedResponse:
        self._begin("Embed", context)
        time.sleep(self.embed_delay_s)
        vectors = [encoder_pb2.Vector(values=vector_of(text)) for text in request.texts]
        return encoder_pb2.EmbedResponse(vectors=vectors)

    def GetInfo(
        self, request: encoder_pb2.EncoderServiceGetInfoRequest, context: grpc.ServicerContext
    ) -> encoder_pb2.EncoderServiceGetInfoResponse:
        with self._lock:
            self.calls["GetInfo"] += 1
        return encoder_pb2.EncoderServiceGetInfoResponse(
            checkpoint=memory_pb2.CheckpointInfo(digest=self.checkpoint_digest),
            embedder=encoder_pb2.EmbedderInfo(
                name="lexical", digest=self.embedder_digest, dimensions=self.dimensions
            ),
            default_codec="raw",
            codecs=["int8", "raw"],
            version="0",
        )

    def _begin(self, method: str, context: grpc.ServicerContext) -> None:
        with self._lock:
            self.calls[method] += 1
        if self.failure is not None:
            abort_with(context, self.failure)

    def _vector(self, reference: memory_pb2.Reference) -> list[float]:
        found = vector_of(search_text(reference.title, reference.heading, reference.text))
        return [float(value) for value in found]
