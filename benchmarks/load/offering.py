"""Callers of a decoder: as many as there are, or as many as come, whether or not it keeps up."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import grpc

from memory3.rpc.channel import connect
from memory3.rpc.status import from_rpc_error
from memory3.v1 import decoder_pb2, decoder_pb2_grpc

PROMPT = "Question: Who was born in the town by the river, and what did they do there?\nAnswer:"
# A caller waits so long for each token; a decoder of many slots gives one a good deal sooner.
PATIENCE_S_PER_TOKEN = 5.0 / 32
# Callers come over so many connections, as from so many machines.
NUM_CONNECTIONS = 8


@dataclass
class Outcome:
    """What became of calls.

    Attributes:
        seconds: How long they were offered.
        finished: Answered whole, within their deadline and while calls were offered.
        refused: Not answered, by gRPC code.
        without_delay: Those of them turned away without the time after which to come again.
        refused_s: How long those waited that were turned away.
        first_token_s: Of each answer that finished.
    """

    seconds: float = 0.0
    finished: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    without_delay: int = 0
    refused_s: list[float] = field(default_factory=list)
    first_token_s: list[float] = field(default_factory=list)

    @property
    def goodput(self) -> float:
        """Answers a second."""
        return self.finished / self.seconds


class Callers:
    """Calls a decoder; use it in an ``async with`` block.

    Args:
        address: The decoder.
        bank: The bank to read; empty for none.
        num_tokens: Tokens of each answer.
    """

    def __init__(self, address: str, bank: str, num_tokens: int) -> None:
        self._address, self._bank, self._num_tokens = address, bank, num_tokens
        self._patience_s = num_tokens * PATIENCE_S_PER_TOKEN

    async def __aenter__(self) -> Callers:
        self._channels = [
            connect(self._address, aio=True, retries=False) for _ in range(NUM_CONNECTIONS)
        ]
        self._stubs = [decoder_pb2_grpc.DecoderServiceStub(each) for each in self._channels]
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels:
            await channel.close()

    async def closed(self, num_callers: int, seconds: float) -> Outcome:
        """So many callers, each asking again as soon as it is answered."""
        outcome, begun = Outcome(), time.perf_counter()

        async def caller(place: int) -> None:
            while time.perf_counter() - begun < seconds:
                await self._call(place, outcome)

        await asyncio.gather(*map(caller, range(num_callers)))
        outcome.seconds = time.perf_counter() - begun
        return outcome

    async def opened(self, rate: float, seconds: float) -> Outcome:
        """So many calls a second at random moments, whatever becomes of them."""
        rng, outcome, begun = Random(8), Outcome(), time.perf_counter()
        calls: list[asyncio.Task[None]] = []
        due = 0.0
        while due < seconds:
            await asyncio.sleep(max(0.0, begun + due - time.perf_counter()))
            calls.append(asyncio.create_task(self._call(len(calls), outcome)))
            due += rng.expovariate(rate)
        outcome.seconds = time.perf_counter() - begun
        # What is answered after the last call is offered is no part of so many answers a second.
        num_finished = outcome.finished
        await asyncio.gather(*calls)
        outcome.finished = num_finished
        return outcome

    async def _call(self, place: int, outcome: Outcome) -> None:
        request = decoder_pb2.GenerateRequest(prompt=PROMPT, bank=self._bank)
        request.sampling.max_tokens = self._num_tokens
        request.sampling.ignore_eos = True
        begun, first = time.perf_counter(), 0.0
        try:
            stub = self._stubs[place % len(self._stubs)]
            async for response in stub.Generate(request, timeout=self._patience_s):
                if not first and response.WhichOneof("event") == "delta":
                    first = time.perf_counter() - begun
        except grpc.aio.AioRpcError as error:
            outcome.refused[error.code().name] += 1
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                outcome.refused_s.append(time.perf_counter() - begun)
                outcome.without_delay += from_rpc_error(error).retry_after_s is None
        else:
            outcome.finished += 1
            outcome.first_token_s.append(first)
