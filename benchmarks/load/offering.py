"""Callers of a decoder: as many as there are, or as many as come, whether or not it keeps up."""

from __future__ import annotations

import asyncio
import itertools
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
        answers: Of each answer that was whole within its deadline, when its pieces came, in seconds
            of ``time.perf_counter``.
        refused: Calls that were not answered, by gRPC code.
        without_delay: Those of them turned away without the time after which to come again.
        refused_s: How long those waited that were turned away.
        first_token_s: How long each of ``answers`` was waited for.
    """

    answers: list[list[float]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    without_delay: int = 0
    refused_s: list[float] = field(default_factory=list)
    first_token_s: list[float] = field(default_factory=list)

    def goodput(self, begin: float, end: float) -> float:
        """Answers a second between two moments.

        Each counts by the share of its pieces that came between them: slots end their answers
        together, so that whole answers would be more or fewer by a handful as a moment falls just
        before that or behind it.
        """
        shares = (
            sum(begin <= each < end for each in pieces) / len(pieces) for pieces in self.answers
        )
        return sum(shares) / (end - begin)


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

    async def closed(self, num_callers: int, seconds: float, outcome: Outcome) -> None:
        """So many callers for so long, each asking again as soon as it is answered, or may."""
        end = time.perf_counter() + seconds

        async def caller(place: int) -> None:
            while time.perf_counter() < end:
                await asyncio.sleep(await self._call(place, outcome))

        await asyncio.gather(*map(caller, range(num_callers)))

    async def opened(self, rate: float, seconds: float, outcome: Outcome) -> None:
        """So many calls a second for so long, at random moments, whatever becomes of them."""
        rng, due = Random(8), time.perf_counter()
        end = due + seconds
        async with asyncio.TaskGroup() as calls:
            for place in itertools.count():
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                if due >= end:
                    break
                calls.create_task(self._call(place, outcome))
                due += rng.expovariate(rate)

    async def _call(self, place: int, outcome: Outcome) -> float:
        """Ask once. Seconds after which to ask again."""
        request = decoder_pb2.GenerateRequest(prompt=PROMPT, bank=self._bank)
        request.sampling.max_tokens = self._num_tokens
        request.sampling.ignore_eos = True
        begun = time.perf_counter()
        pieces: list[float] = []
        try:
            stub = self._stubs[place % len(self._stubs)]
            async for response in stub.Generate(request, timeout=self._patience_s):
                if response.WhichOneof("event") == "delta":
                    pieces.append(time.perf_counter())
        except grpc.aio.AioRpcError as error:
            outcome.refused[error.code().name] += 1
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                outcome.refused_s.append(time.perf_counter() - begun)
                delay_s = from_rpc_error(error).retry_after_s
                outcome.without_delay += delay_s is None
                return delay_s or 0.0
        else:
            outcome.answers.append(pieces)
            outcome.first_token_s.append(pieces[0] - begun)
        return 0.0
