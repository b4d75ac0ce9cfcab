"""A small retriever for the decoder's tests: a real gRPC server with real memories.

It searches by shared words, writes its envelopes with the checkpoint's own model, and can be told
to wait, to fail, to leave memories out or to break off in the middle of an answer.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures

import grpc
import torch

from memory3.checkpoint import Checkpoint
from memory3.codecs.raw import RawCodec
from memory3.errors import CheckpointMismatchError, Memory3Error, NotFoundError
from memory3.memory.writer import MemoryWriter, to_envelope
from memory3.rpc.context import REQUEST_ID_KEY
from memory3.rpc.status import abort_with
from memory3.v1 import memory_pb2, retriever_pb2, retriever_pb2_grpc

BANK = "banks/facts"
PIECE_BYTES = 1000


def reference_id(text: str) -> str:
    """The id of a reference of this retriever."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class ScriptedRetriever(retriever_pb2_grpc.RetrieverServiceServicer):
    """One bank of texts behind ``Retrieve``; use it as a context.

    Attributes:
        gate: Calls wait while it is closed.
        held_after: Calls that pass a closed gate before the others wait.
        held_word: If set, only queries with this word wait.
        delay_s: How long a request waits besides; for ever where infinite.
        error: What calls fail with.
        fail_after: Calls that are answered before ``error`` counts.
        cut_after: Messages after which the stream breaks off.
        left_out: Ids whose memory cannot be had.
        requests: Every request, in the order of arrival.
        request_ids: The id that each of them carried.
        sent: Ids of the memories sent, once for each time.
        digest: The checkpoint the bank belongs to.
        revision: The bank's revision.
        num_cancelled: Calls that the caller gave up.
    """

    def __init__(
        self, checkpoint: Checkpoint, texts: Sequence[str], *, address: str = "127.0.0.1:0"
    ) -> None:
        self.address = address
        self.texts = {reference_id(text): text for text in texts}
        self.envelopes = write_envelopes(checkpoint, texts)
        self.digest = checkpoint.digest
        self.gate = threading.Event()
        self.gate.set()
        self.held_after = 0
        self.held_word = ""
        self.delay_s: Callable[[retriever_pb2.RetrieveRequest], float] = lambda _: 0.0
        self.error: Memory3Error | None = None
        self.fail_after = 0
        self.cut_after: int | None = None
        self.left_out: set[str] = set()
        self.requests: list[retriever_pb2.RetrieveRequest] = []
        self.request_ids: list[str] = []
        self.sent: list[str] = []
        self.revision = 1
        self.num_cancelled = 0
        self._lock = threading.Lock()

    def __enter__(self) -> ScriptedRetriever:
        self._server = grpc.server(futures.ThreadPoolExecutor(32))
        retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port(self.address)}"
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.stop(0).wait()

    def search(self, text: str, k: int) -> list[tuple[str, float]]:
        """Ids and scores of the texts that share most words with a text."""
        words = set(text.split())
        scored = []
        for key, candidate in self.texts.items():
            other = set(candidate.split())
            shared = len(words & other) / math.sqrt(max(1, len(words)) * len(other))
            # A little of the text itself, so that any two texts find different references.
            noise = int(hashlib.sha256((text + key).encode()).hexdigest()[:8], 16) / 2**32
            scored.append((key, 0.9 * shared + 0.1 * noise))
        return sorted(scored, key=lambda item: (-item[1], item[0]))[:k]

    def Retrieve(
        self, request: retriever_pb2.RetrieveRequest, context: grpc.ServicerContext
    ) -> Iterator[retriever_pb2.RetrieveResponse]:
        """Answer as the contract says, or as the script says."""
        metadata = dict(context.invocation_metadata())
        with self._lock:
            self.requests.append(request)
            self.request_ids.append(str(metadata.get(REQUEST_ID_KEY)))
            number = len(self.requests)
            fails = self.error is not None and number > self.fail_after
        if number > self.held_after:
            self._wait(request, context)
        self._delay(self.delay_s(request), context)
        if fails and self.error is not None:
            abort_with(context, self.error)
        if request.bank != BANK:
            abort_with(context, NotFoundError("there is no such bank", field="bank"))
        if request.checkpoint_digest != self.digest:
            error = CheckpointMismatchError(
                "the bank belongs to another checkpoint",
                field="checkpoint_digest",
                expected=self.digest,
                actual=request.checkpoint_digest,
            )
            abort_with(context, error)
        for number, response in enumerate(self._answer(request, context)):
            if number == self.cut_after:
                context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            yield response

    def _wait(self, request: retriever_pb2.RetrieveRequest, context: grpc.ServicerContext) -> None:
        if not any(self.held_word in query.text for query in request.queries):
            return
        while not self.gate.wait(0.005):
            if not context.is_active():
                with self._lock:
                    self.num_cancelled += 1
                return

    def _delay(self, seconds: float, context: grpc.ServicerContext) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(min(0.005, seconds))
            if not context.is_active():
                with self._lock:
                    self.num_cancelled += 1
                return

    def _answer(
        self, request: retriever_pb2.RetrieveRequest, context: grpc.ServicerContext
    ) -> Iterator[retriever_pb2.RetrieveResponse]:
        to_send: dict[str, None] = {}
        for index, query in enumerate(request.queries):
            hits = []
            for key, score in self._hits(query, request.k, context):
                status = self._status(key, request.held_ids)
                if status == memory_pb2.MEMORY_STATUS_SENT:
                    to_send[key] = None
                hit = retriever_pb2.RetrieveHit(reference_id=key, score=score, memory_status=status)
                if request.with_references:
                    hit.reference.CopyFrom(
                        memory_pb2.Reference(id=key, text=self.texts[key], source="script")
                    )
                hits.append(hit)
            yield retriever_pb2.RetrieveResponse(
                result=retriever_pb2.RetrieveResult(
                    query_index=index, hits=hits, revision=self.revision
                )
            )
        for key in to_send:
            self.sent.append(key)
            envelope = self.envelopes[key]
            for offset in range(0, len(envelope), PIECE_BYTES):
                yield retriever_pb2.RetrieveResponse(
                    piece=retriever_pb2.MemoryPiece(
                        reference_id=key,
                        offset=offset,
                        total_bytes=len(envelope),
                        data=envelope[offset : offset + PIECE_BYTES],
                    )
                )

    def _hits(
        self, query: retriever_pb2.Query, k: int, context: grpc.ServicerContext
    ) -> list[tuple[str, float]]:
        if query.WhichOneof("what") == "text":
            return self.search(query.text, k)
        for key in query.references.ids:
            if key not in self.texts:
                abort_with(context, NotFoundError(f"there is no reference {key}", field="ids"))
        return [(key, 0.0) for key in query.references.ids]

    def _status(self, key: str, held_ids: Sequence[str]) -> memory_pb2.MemoryStatus:
        if key in held_ids:
            return memory_pb2.MEMORY_STATUS_HELD
        if key in self.left_out:
            return memory_pb2.MEMORY_STATUS_LEFT_OUT
        return memory_pb2.MEMORY_STATUS_SENT


def write_envelopes(checkpoint: Checkpoint, texts: Sequence[str]) -> dict[str, bytes]:
    """Real memories of texts, by reference id."""
    config = checkpoint.config
    model = checkpoint.load_model(dtype=torch.float32)
    length = config.memory.reference_length
    tokens = [
        checkpoint.tokenizer.encode(text, add_special_tokens=False).ids[:length] for text in texts
    ]
    memories = MemoryWriter(model, config).write(tokens)
    return {
        reference_id(text): to_envelope(memory, RawCodec(), checkpoint.digest)
        for text, memory in zip(texts, memories, strict=True)
    }
