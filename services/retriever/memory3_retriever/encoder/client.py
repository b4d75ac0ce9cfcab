"""The encoder over gRPC: every answer checked, every failure typed, every call with a deadline.

It must not know banks; what a bank expects of an encoder, the bank says.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import grpc
import numpy as np

from memory3.errors import (
    BackendUnavailableError,
    CheckpointMismatchError,
    CorruptDataError,
    InternalError,
    LoadingError,
    Memory3Error,
    RequestCancelledError,
    UnavailableError,
    from_reason,
)
from memory3.memory.envelope import verify
from memory3.observability import tracing
from memory3.rpc.channel import connect
from memory3.rpc.context import call_metadata
from memory3.rpc.security.outgoing import Outgoing
from memory3.rpc.status import typed_errors
from memory3.v1 import encoder_pb2, encoder_pb2_grpc, memory_pb2
from memory3_retriever.bank.records import EmbedderIdentity, Reference, Vectors
from memory3_retriever.limits import Limit
from memory3_retriever.metrics import RetrieverMetrics

# Two calls of each stream fit into the queue of an encoder, see `ingest.pipeline`.
MAX_ENCODE = 128
MAX_EMBED = 1024
# An encoder needs longer than this to restart, so no other one can answer unnoticed.
_INFO_SECONDS = 1.0
_INFO_BUDGET_S = 5.0

_KINDS = {"query": encoder_pb2.TEXT_KIND_QUERY, "reference": encoder_pb2.TEXT_KIND_REFERENCE}


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """What the encoder says of itself: embedder and codecs; its checkpoint was checked."""

    embedder: EmbedderIdentity
    default_codec: str
    codecs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A reference's memory, verified, and its vector, [dimensions]."""

    envelope: bytes
    vector: Vectors


class EncoderClient:
    """Calls one encoder.

    Args:
        target: Its address.
        checkpoint_digest: The checkpoint that it must have loaded.
        embed_budget_s: The most seconds one call of Embed may take.
        encode_budget_s: The most seconds one call of Encode may take.
        metrics: Times the calls; None for no counting.
        outgoing: What to connect and call with; the token is the retriever's own, as readers may
            ask for memories that are still to be written.

    Raises:
        InvalidArgumentError: The target is not an address.
    """

    def __init__(
        self,
        target: str,
        checkpoint_digest: str,
        *,
        embed_budget_s: float = 10.0,
        encode_budget_s: float = 300.0,
        metrics: RetrieverMetrics | None = None,
        outgoing: Outgoing | None = None,
    ) -> None:
        self._outgoing = outgoing or Outgoing()
        self.target = target
        self._digest = checkpoint_digest
        self._embed_budget_s = embed_budget_s
        self._encode_budget_s = encode_budget_s
        self._metrics = metrics
        self._channel = connect(
            target,
            credentials=self._outgoing.credentials(),
            server_name=self._outgoing.tls_name,
        )
        self._stub = encoder_pb2_grpc.EncoderServiceStub(self._channel)
        self._lock = threading.Lock()
        self._info: EncoderInfo | None = None
        self._info_until = 0.0

    def info(self, limit: Limit) -> EncoderInfo:
        """What the encoder is now, known to be of the right checkpoint.

        Raises:
            CheckpointMismatchError: It has loaded another checkpoint.
            BackendUnavailableError: It does not answer.
        """
        with self._lock:
            if self._info is not None and time.monotonic() < self._info_until:
                return self._info
        asked_at = time.monotonic()
        with self._call("GetInfo"):
            response = self._stub.GetInfo(
                encoder_pb2.EncoderServiceGetInfoRequest(),
                timeout=limit.timeout(_INFO_BUDGET_S),
                metadata=call_metadata(self._outgoing.bearer()),
            )
        self._check_digest(response.checkpoint.digest)
        embedder = response.embedder
        info = EncoderInfo(
            EmbedderIdentity(embedder.name, embedder.digest, embedder.dimensions),
            response.default_codec,
            tuple(response.codecs),
        )
        with self._lock:
            self._info, self._info_until = info, asked_at + _INFO_SECONDS
        return info

    def embed(
        self, texts: Sequence[str], kind: Literal["query", "reference"], limit: Limit
    ) -> Vectors:
        """The vectors of texts, [len(texts), dimensions] of ``info().embedder``.

        Raises:
            CorruptDataError: The encoder's answer has another form than it promised.
            CheckpointMismatchError: It has loaded another checkpoint.
            BackendUnavailableError: It does not answer.
        """
        embedder = self.info(limit).embedder
        dimensions = embedder.dimensions
        blocks = [np.empty((0, dimensions), dtype=np.float32)]
        for start in range(0, len(texts), MAX_EMBED):
            block = texts[start : start + MAX_EMBED]
            request = encoder_pb2.EmbedRequest(
                texts=block, kind=_KINDS[kind], embedder_digest=embedder.digest
            )
            with self._call("Embed", num_texts=len(block)):
                response = self._stub.Embed(
                    request,
                    timeout=limit.timeout(self._embed_budget_s),
                    metadata=call_metadata(self._outgoing.bearer()),
                )
            if len(response.vectors) != len(block):
                raise _wrong(f"{len(response.vectors)} vectors for {len(block)} texts")
            blocks.append(np.stack([_vector(each, dimensions) for each in response.vectors]))
        return np.concatenate(blocks)

    def encode(
        self, references: Sequence[Reference], codec: str, limit: Limit
    ) -> list[Encoded | Memory3Error]:
        """The memories and vectors of references, or why one of them was refused.

        Raises:
            CheckpointMismatchError: The encoder has loaded another checkpoint.
            CorruptDataError: A memory arrived damaged.
            BackendUnavailableError: It does not answer.
        """
        embedder = self.info(limit).embedder
        outcomes: list[Encoded | Memory3Error] = []
        for start in range(0, len(references), MAX_ENCODE):
            block = references[start : start + MAX_ENCODE]
            outcomes.extend(self._encode_block(block, codec, embedder, limit))
        return outcomes

    def close(self) -> None:
        """Close the connections."""
        self._channel.close()

    def _encode_block(
        self, references: Sequence[Reference], codec: str, embedder: EmbedderIdentity, limit: Limit
    ) -> list[Encoded | Memory3Error]:
        request = encoder_pb2.EncodeRequest(
            references=[
                memory_pb2.Reference(id=r.id, text=r.text, title=r.title, heading=r.heading)
                for r in references
            ],
            checkpoint_digest=self._digest,
            codec=codec,
            with_vectors=True,
            embedder_digest=embedder.digest,
        )
        outcomes: dict[int, Encoded | Memory3Error] = {}
        with self._call("Encode", num_references=len(references), codec=codec):
            call = self._stub.Encode(
                request,
                timeout=limit.timeout(self._encode_budget_s),
                metadata=call_metadata(self._outgoing.bearer()),
            )
            try:
                for response in call:
                    limit.check()
                    outcomes[response.index] = self._outcome(response, embedder.dimensions)
            finally:
                call.cancel()
        if outcomes.keys() != set(range(len(references))):
            raise _wrong(f"{len(outcomes)} outcomes for {len(references)} references")
        return [outcomes[index] for index in range(len(references))]

    def _outcome(
        self, response: encoder_pb2.EncodeResponse, dimensions: int
    ) -> Encoded | Memory3Error:
        if response.HasField("error"):
            error = response.error
            return from_reason(error.reason, error.message) or InternalError(error.message)
        envelope = response.memory.envelope
        verify(envelope, checkpoint_digest=self._digest)
        return Encoded(envelope, _vector(response.vector, dimensions))

    def _check_digest(self, actual: str) -> None:
        if actual != self._digest:
            raise CheckpointMismatchError(
                f"the encoder at {self.target} has loaded another checkpoint",
                field="checkpoint_digest",
                remedy="start encoder and retriever with the same checkpoint",
                expected=self._digest,
                actual=actual,
            )

    @contextmanager
    def _call(self, method: str, **attributes: tracing.Attribute) -> Iterator[None]:
        """Around one call: its span, its time, and what its failure means here."""
        started, code = time.perf_counter(), "OK"
        try:
            with (
                tracing.span(f"memory3.v1.EncoderService/{method}", "client", **attributes),
                typed_errors(),
            ):
                yield
        except Memory3Error as error:
            code = error.code
            with self._lock:
                self._info = None
            if isinstance(error, UnavailableError) or _was_cut_off(error):
                loading = isinstance(error, LoadingError)
                raise BackendUnavailableError(
                    f"the encoder at {self.target} "
                    + ("is still loading" if loading else "does not answer"),
                    field="encoder",
                    remedy="wait for it"
                    if loading
                    else "start it, or give the retriever the address it listens on",
                    metadata={"target": self.target},
                    retry_after_s=1.0,
                ) from error
            raise
        finally:
            if self._metrics is not None:
                seconds = time.perf_counter() - started
                self._metrics.encoder_calls.labels(method, code).observe(seconds)


def _was_cut_off(error: Memory3Error) -> bool:
    """Whether the other side ended the call: nobody on this side asked for that."""
    return isinstance(error, RequestCancelledError) and isinstance(error.__cause__, grpc.RpcError)


def _vector(message: encoder_pb2.Vector, dimensions: int) -> Vectors:
    vector = np.array(message.values, dtype=np.float32)
    if vector.shape != (dimensions,):
        raise _wrong(f"a vector of {vector.size} values, not {dimensions}")
    if not np.isfinite(vector).all():
        raise _wrong("a vector that is not finite")
    return vector


def _wrong(what: str) -> CorruptDataError:
    return CorruptDataError(
        f"the encoder answered with {what}",
        field="encoder",
        remedy="run encoder and retriever in versions that belong together",
    )
