"""EncoderService as gRPC calls it: check, hand to the engine, convert. Nothing is computed here.

It answers on threads; one call holds one thread, and the model runs on the engine's.
"""

from __future__ import annotations

from collections.abc import Iterator

import grpc

import memory3
from memory3.checkpoint import Checkpoint
from memory3.errors import LoadingError, Memory3Error, RequestCancelledError
from memory3.observability import tracing
from memory3.rpc.deadlines import remaining
from memory3.v1 import encoder_pb2, encoder_pb2_grpc
from memory3_encoder import convert
from memory3_encoder.codecs import CodecShelf
from memory3_encoder.engine.engine import EncoderEngine
from memory3_encoder.engine.work import Outcome
from memory3_encoder.metrics import EncoderMetrics


class Loaded:
    """What answering takes, once it is loaded.

    Args:
        checkpoint: The open checkpoint.
        engine: Encodes and embeds.
        codecs: The codecs at hand.
    """

    def __init__(self, checkpoint: Checkpoint, engine: EncoderEngine, codecs: CodecShelf) -> None:
        self.checkpoint = checkpoint
        self.engine = engine
        self.codecs = codecs
        tokenizer = checkpoint.tokenizer
        self.references = convert.ReferenceReader(
            lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
            checkpoint.config.memory.reference_length,
        )


class EncoderServicer(encoder_pb2_grpc.EncoderServiceServicer):
    """Answers calls once ``attach`` was called; the guard refuses them before.

    Args:
        metrics: Counts.
    """

    def __init__(self, metrics: EncoderMetrics) -> None:
        self._metrics = metrics
        self._attached: Loaded | None = None

    def attach(self, loaded: Loaded) -> None:
        """Give what answering takes."""
        self._attached = loaded

    def Encode(
        self, request: encoder_pb2.EncodeRequest, context: grpc.ServicerContext
    ) -> Iterator[encoder_pb2.EncodeResponse]:
        """See the proto."""
        loaded = self._loaded()
        convert.check_count("references", len(request.references))
        convert.check_digest(
            "checkpoint_digest", request.checkpoint_digest, loaded.checkpoint.digest
        )
        self._check_embedder(request, loaded)
        codec = loaded.codecs.get(request.codec)
        remaining(context)
        prepared, refused = loaded.references.read(request.references, request.with_vectors)
        tracing.current().set(
            num_references=len(request.references),
            num_refused=len(refused),
            num_tokens=sum(len(each.tokens) for each in prepared),
            codec=codec.name,
        )
        call = loaded.engine.encode(prepared, codec)
        try:
            if not context.add_callback(call.cancel):
                raise RequestCancelledError("the caller is gone")
            for outcomes in (refused, call):
                for outcome in outcomes:
                    self._count(outcome)
                    yield convert.encode_response(outcome, request.references[outcome.index].id)
        finally:
            call.cancel()

    def Embed(
        self, request: encoder_pb2.EmbedRequest, context: grpc.ServicerContext
    ) -> encoder_pb2.EmbedResponse:
        """See the proto."""
        loaded = self._loaded()
        convert.check_count("texts", len(request.texts))
        self._check_embedder(request, loaded)
        kind = convert.text_kind(request.kind)
        tracing.current().set(num_texts=len(request.texts), kind=kind)
        vectors = loaded.engine.embed(
            list(request.texts),
            kind,
            timeout_s=remaining(context),
            on_begin=lambda call: context.add_callback(call.cancel),
        )
        self._metrics.texts.inc(len(request.texts))
        return convert.embed_response(vectors)

    def GetInfo(
        self, request: encoder_pb2.EncoderServiceGetInfoRequest, context: grpc.ServicerContext
    ) -> encoder_pb2.EncoderServiceGetInfoResponse:
        """See the proto."""
        loaded = self._loaded()
        return encoder_pb2.EncoderServiceGetInfoResponse(
            checkpoint=loaded.checkpoint.info(),
            embedder=convert.embedder_info(loaded.engine.embedder),
            default_codec=loaded.codecs.default,
            codecs=loaded.codecs.names,
            version=memory3.__version__,
        )

    def _loaded(self) -> Loaded:
        if self._attached is None:
            raise LoadingError("the encoder is still loading", retry_after_s=0.5)
        return self._attached

    def _check_embedder(
        self, request: encoder_pb2.EncodeRequest | encoder_pb2.EmbedRequest, loaded: Loaded
    ) -> None:
        embedder = loaded.engine.embedder.digest
        convert.check_digest("embedder_digest", request.embedder_digest, embedder)

    def _count(self, outcome: Outcome) -> None:
        error: Memory3Error | None = outcome.error
        self._metrics.references.labels("encoded" if error is None else error.reason).inc()
