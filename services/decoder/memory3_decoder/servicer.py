"""DecoderService as gRPC calls it: check, hand to the engine, convert. Nothing is computed here.

It answers on the event loop, so that one process holds many slow streams; long texts are tokenized
on a thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import grpc

import memory3
from memory3.errors import LoadingError
from memory3.observability import tracing
from memory3.rpc.deadlines import remaining
from memory3.v1 import decoder_pb2, decoder_pb2_grpc
from memory3_decoder import convert
from memory3_decoder.decoder import Decoder

ResultT = TypeVar("ResultT")
_Context = grpc.aio.ServicerContext[Any, Any]

# Tokenizing this many bytes takes well below a millisecond.
_SHORT_BYTES = 4096


class DecoderServicer(decoder_pb2_grpc.DecoderServiceServicer):
    """Answers calls once ``attach`` was called; the guard refuses them before."""

    def __init__(self) -> None:
        self._attached: Decoder | None = None

    def attach(self, decoder: Decoder) -> None:
        """Give the loaded decoder."""
        self._attached = decoder

    async def Generate(
        self, request: decoder_pb2.GenerateRequest, context: _Context
    ) -> AsyncIterator[decoder_pb2.GenerateResponse]:
        """See the proto."""
        decoder = self._decoder()
        deadline = _deadline(context)
        # A caller is a connection: a process that calls has one, however many calls it makes.
        caller = context.peer()
        decoder.engine.check_room(convert.demand_of(request, deadline), caller=caller)
        wanted = await _work(request, lambda: decoder.requests.generation(request, deadline))
        tracing.current().set(
            bank=wanted.bank,
            prompt_tokens=len(wanted.prompt_tokens),
            max_tokens=wanted.max_tokens,
            num_choices=wanted.sampling.n,
        )
        with decoder.engine.generate(wanted, caller=caller) as stream:
            # The call may end while this generator is not waiting in here. (The stubs have a class
            # where any callable is meant.)
            context.add_done_callback(lambda _: stream.cancel())  # type: ignore[arg-type]
            async for event in stream:
                yield convert.generate_response(event)

    async def Score(
        self, request: decoder_pb2.ScoreRequest, context: _Context
    ) -> decoder_pb2.ScoreResponse:
        """See the proto."""
        decoder = self._decoder()
        deadline = _deadline(context)
        wanted = await _work(request, lambda: decoder.requests.scoring(request, deadline))
        return convert.score_response(await decoder.engine.score(wanted))

    async def Tokenize(
        self, request: decoder_pb2.TokenizeRequest, context: _Context
    ) -> decoder_pb2.TokenizeResponse:
        """See the proto."""
        decoder = self._decoder()
        tokens = await _work(request, lambda: decoder.requests.tokens(request.text, "text"))
        return decoder_pb2.TokenizeResponse(token_ids=tokens)

    async def Detokenize(
        self, request: decoder_pb2.DetokenizeRequest, context: _Context
    ) -> decoder_pb2.DetokenizeResponse:
        """See the proto."""
        decoder = self._decoder()
        text = await _work(request, lambda: decoder.requests.text(request.token_ids))
        return decoder_pb2.DetokenizeResponse(text=text)

    async def GetInfo(
        self, request: decoder_pb2.DecoderServiceGetInfoRequest, context: _Context
    ) -> decoder_pb2.DecoderServiceGetInfoResponse:
        """See the proto."""
        decoder = self._decoder()
        return decoder_pb2.DecoderServiceGetInfoResponse(
            checkpoint=decoder.checkpoint.info(),
            num_slots=decoder.settings.num_slots,
            num_running=decoder.engine.num_running,
            num_waiting=decoder.engine.num_waiting,
            context_length=decoder.context_length,
            dtype=decoder.dtype,
            retriever=decoder.retriever,
            version=memory3.__version__,
            session_tokens=decoder.session_tokens,
        )

    def _decoder(self) -> Decoder:
        if self._attached is None:
            raise LoadingError("the decoder is still loading", retry_after_s=0.5)
        return self._attached


def _deadline(context: _Context) -> float | None:
    left = remaining(context)
    return None if left is None else time.monotonic() + left


async def _work(request: Any, work: Callable[[], ResultT]) -> ResultT:
    """Do the tokenizer's work for a request; on a thread where it would hold up the event loop."""
    if request.ByteSize() <= _SHORT_BYTES:
        return work()
    return await asyncio.to_thread(work)
