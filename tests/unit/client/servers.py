"""Small services on real sockets for tests of clients: a retriever, a decoder and an encoder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

from memory3.errors import (
    NotFoundError,
)
from memory3.rpc.server import RpcServer, ServerOptions, build_server
from memory3.v1 import decoder_pb2, encoder_pb2, memory_pb2
from memory3.v1.decoder_pb2_grpc import (
    DecoderServiceServicer,
    add_DecoderServiceServicer_to_server,
)
from memory3.v1.encoder_pb2_grpc import (
    EncoderServiceServicer,
    add_EncoderServiceServicer_to_server,
)
from memory3.v1.retriever_pb2_grpc import (
    add_RetrieverServiceServicer_to_server,
)
from tests.unit.client.memory_retriever import CHECKPOINT, MemoryRetriever


class EchoDecoder(DecoderServiceServicer):
    """Answers with the second half of the prompt's words, one delta a word."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.cancelled = threading.Event()

    def Generate(self, request: Any, context: Any) -> Iterator[Any]:
        self.requests.append(request)
        if request.bank and request.bank != "banks/docs":
            raise NotFoundError(f"there is no {request.bank}", field="bank")
        context.add_callback(self.cancelled.set)
        attached = decoder_pb2.ChunkMemories(choice=0, chunk=0)
        if request.bank:
            reference = memory_pb2.Reference(id="r1", text="Ada lives in Turin.", source="ada.md")
            attached.references.add(
                id="r1", score=0.5, reference=reference if request.memory.with_references else None
            )
        for choice in range(request.sampling.n or 1):
            attached.choice = choice
            yield decoder_pb2.GenerateResponse(attached=attached)
            for number in range(request.sampling.max_tokens or 3):
                if "forever" in request.prompt:
                    time.sleep(0.02)
                delta = decoder_pb2.TextDelta(choice=choice, text=f" w{number}", token_ids=[number])
                if request.sampling.HasField("logprobs"):
                    delta.logprobs.add(token_id=number, logprob=-0.5).top.add(token_id=9)
                yield decoder_pb2.GenerateResponse(delta=delta)
            if "broken" in request.prompt:
                return
            yield decoder_pb2.GenerateResponse(finish=self._finish(request, choice, attached))

    def _finish(self, request: Any, choice: int, attached: Any) -> Any:
        finish = decoder_pb2.Finish(choice=choice, reason=decoder_pb2.FINISH_REASON_LENGTH)
        finish.usage.prompt_tokens, finish.usage.completion_tokens = 4, 3
        finish.usage.time_to_first_token.FromMilliseconds(12)
        finish.chunks.append(attached)
        if request.memory.report:
            for reference in finish.chunks[0].references:
                reference.attention_mass = 0.25
        if "late" in request.prompt:
            finish.degraded, finish.degraded_reason = True, "the retriever was late"
        return finish

    def Score(self, request: Any, context: Any) -> Any:
        scores = [
            decoder_pb2.ContinuationScore(logprob=-float(len(text)), num_tokens=1, greedy=True)
            for text in request.continuations
        ]
        reason = "the retriever is away" if request.bank else ""
        return decoder_pb2.ScoreResponse(
            scores=scores, degraded=bool(reason), degraded_reason=reason
        )

    def Tokenize(self, request: Any, context: Any) -> Any:
        return decoder_pb2.TokenizeResponse(token_ids=[ord(c) for c in request.text])

    def Detokenize(self, request: Any, context: Any) -> Any:
        return decoder_pb2.DetokenizeResponse(text="".join(map(chr, request.token_ids)))

    def GetInfo(self, request: Any, context: Any) -> Any:
        return decoder_pb2.DecoderServiceGetInfoResponse(
            checkpoint=CHECKPOINT, num_slots=4, dtype="float32", version="9.9"
        )


class ConstantEncoder(EncoderServiceServicer):
    """Embeds every text as its length."""

    def Embed(self, request: Any, context: Any) -> Any:
        sign = -1.0 if request.kind == encoder_pb2.TEXT_KIND_REFERENCE else 1.0
        vectors = [encoder_pb2.Vector(values=[sign * len(text), 0.0]) for text in request.texts]
        return encoder_pb2.EmbedResponse(vectors=vectors)

    def GetInfo(self, request: Any, context: Any) -> Any:
        return encoder_pb2.EncoderServiceGetInfoResponse(
            checkpoint=CHECKPOINT, default_codec="raw", codecs=["int8", "raw"]
        )


class Services:
    """The three services on free ports."""

    def __init__(self) -> None:
        self.retriever = MemoryRetriever()
        self.decoder = EchoDecoder()
        self.servers: dict[str, RpcServer] = {
            "decoder": _started("Decoder", add_DecoderServiceServicer_to_server, self.decoder),
            "retriever": _started(
                "Retriever", add_RetrieverServiceServicer_to_server, self.retriever
            ),
            "encoder": _started("Encoder", add_EncoderServiceServicer_to_server, ConstantEncoder()),
        }

    @property
    def addresses(self) -> dict[str, str]:
        """Where each listens."""
        return {name: server.address for name, server in self.servers.items()}

    def stop(self) -> None:
        """Stop all of them."""
        self.retriever.gate.set()
        for server in self.servers.values():
            server.stop(0)


def _started(name: str, add: Callable[[Any, grpc.Server], None], servicer: Any) -> RpcServer:
    options = ServerOptions(service=f"memory3.v1.{name}Service", registry=CollectorRegistry())
    server = build_server(options, lambda grpc_server: add(servicer, grpc_server))
    server.start()
    server.health.set_ready()
    return server
