"""What holds of the engine whatever comes, goes, is late or is missing."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from memory3_decoder.decoder import Decoder
from memory3_decoder.engine import Scores
from memory3_decoder.parameters import MemoryOptions, ScoringRequest

from memory3.errors import BackendUnavailableError, DeadlineExceededError, QueueFullError
from memory3.v1 import retriever_pb2
from tests.unit.decoder.calls import Answer, collect, prompt_of, request, until_idle
from tests.unit.decoder.conftest import CHUNK_LENGTH, MakeDecoder
from tests.unit.decoder.held_model import HeldModel
from tests.unit.decoder.scripted_retriever import BANK, ScriptedRetriever

# How many references a request asks for says when all its memories come.
NEVER, LATE, EARLY = 1, 2, 3
NUM_REQUESTS = 24


@dataclass
class Plan:
    """One caller: what it asks for, when it comes, and whether it stays.

    Attributes:
        prompt: What is to be continued.
        wishes: The rest of the request.
        comes_after_s: When it asks.
        leaves_after_s: When it leaves; None stays to the end.
        waits_s: Its deadline; None waits for ever.
    """

    prompt: str
    wishes: dict[str, Any]
    comes_after_s: float
    leaves_after_s: float | None
    waits_s: float | None


def _wishes(rng: Random) -> dict[str, Any]:
    """A request of any kind that is repeatable."""
    comes = rng.choice([NEVER, LATE, LATE, EARLY])
    memory = MemoryOptions(
        num_references=comes,
        report=rng.random() < 0.3,
        strict=rng.random() < 0.2,
        retrieval_timeout_s=0.02 if comes == NEVER else None,
    )
    return {
        "bank": rng.choice(["", BANK, BANK]),
        "max_tokens": rng.randint(1, 3 * CHUNK_LENGTH),
        "temperature": rng.choice([0.0, 0.0, 0.7, 1.5]),
        "top_p": rng.choice([1.0, 0.9]),
        "top_k": rng.choice([0, 20]),
        "repetition_penalty": rng.choice([1.0, 1.3]),
        "seed": rng.randrange(2**64),
        "logprobs": rng.choice([None, 2]),
        "ignore_eos": rng.random() < 0.8,
        "stop": rng.choice([(), ("e",)]),
        "n": rng.choice([1, 1, 1, 3]),
        "memory": memory,
    }


def _plan(decoder: Decoder, rng: Random, number: int) -> Plan:
    length = rng.choice([rng.randint(1, 20), rng.randint(1, 7 * CHUNK_LENGTH)])
    fate = rng.random()
    return Plan(
        prompt_of(decoder, length, start=number),
        _wishes(rng),
        comes_after_s=rng.random() * 0.3,
        leaves_after_s=rng.random() * 0.1 if fate < 0.25 else None,
        waits_s=rng.random() * 0.2 if 0.25 <= fate < 0.4 else None,
    )


async def _live(decoder: Decoder, plan: Plan) -> list[Answer] | BaseException:
    """Carry out a plan: the answers of its choices, or why there are none."""
    await asyncio.sleep(plan.comes_after_s)
    deadline = None if plan.waits_s is None else time.monotonic() + plan.waits_s
    wanted = request(decoder, plan.prompt, deadline=deadline, **plan.wishes)
    try:
        stream = decoder.engine.generate(wanted)
    except QueueFullError as error:
        return error
    task = asyncio.create_task(collect(stream))
    if plan.leaves_after_s is not None:
        await asyncio.sleep(plan.leaves_after_s)
        task.cancel()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    return result


async def _score(decoder: Decoder, rng: Random) -> tuple[ScoringRequest, Scores]:
    await asyncio.sleep(rng.random() * 0.3)
    tokens = [rng.randrange(10, 200) for _ in range(rng.randint(5, 7 * CHUNK_LENGTH))]
    cut = rng.randint(1, len(tokens) - 1)
    wanted = ScoringRequest(
        prompt_tokens=tuple(tokens[:cut]), continuations=(tuple(tokens[cut:]), tuple(tokens[:3]))
    )
    return wanted, await decoder.engine.score(wanted)


async def _alone(decoder: Decoder, plan: Plan) -> list[Answer]:
    return await collect(decoder.engine.generate(request(decoder, plan.prompt, **plan.wishes)))


def _essence(answer: Answer) -> tuple[Any, ...]:
    """What must not depend on the others."""
    chosen = [logprob.token_id for logprob in answer.logprobs]
    end = answer.end
    return (
        answer.tokens,
        answer.text,
        answer.chunk_ids,
        chosen,
        end.reason,
        bool(end.degraded_reason),
    )


@pytest.mark.parametrize("seed", range(4))
async def test_everybody_gets_their_solo_run_and_leaves_nothing_behind(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever, model: HeldModel, seed: int
) -> None:
    """Arrivals, departures, deadlines, late and missing memories, scores in between."""
    rng, delays = Random(seed), Random(seed)

    def delay_s(asked: retriever_pb2.RetrieveRequest) -> float:
        return {NEVER: float("inf"), LATE: delays.random() * 0.04, EARLY: 0.0}[asked.k]

    retriever.delay_s = delay_s
    num_slots = rng.randint(2, 5)
    prefill_tokens = rng.choice([CHUNK_LENGTH, 3 * CHUNK_LENGTH + 5, 256])
    decoder: Decoder = await make_decoder(num_slots=num_slots, prefill_tokens=prefill_tokens)
    plans = [_plan(decoder, rng, number) for number in range(NUM_REQUESTS)]
    before = asyncio.all_tasks()

    # However fast the machine, an answer takes longer than the next one is in coming.
    model.pause_s = 0.001
    peak = 0

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, decoder.engine.num_running)
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    scoring = asyncio.gather(*(_score(decoder, rng) for _ in range(4)))
    results = await asyncio.gather(*(_live(decoder, plan) for plan in plans))
    scores = await scoring
    watching.cancel()
    model.pause_s = 0.0
    await _leaves_nothing_behind(decoder, num_slots, before)
    assert 2 <= peak <= num_slots

    alone: Decoder = await make_decoder(num_slots=1, prefill_tokens=4096)
    num_compared = 0
    for plan, result in zip(plans, results, strict=True):
        if isinstance(result, asyncio.CancelledError):
            assert plan.leaves_after_s is not None
        elif isinstance(result, DeadlineExceededError | QueueFullError):
            assert plan.waits_s is not None
        elif isinstance(result, BackendUnavailableError):
            assert plan.wishes["memory"].strict
            assert plan.wishes["memory"].num_references == NEVER
        else:
            assert not isinstance(result, BaseException), result
            expected = await _alone(alone, plan)
            assert [_essence(answer) for answer in result] == [_essence(e) for e in expected]
            num_compared += 1
    assert num_compared >= NUM_REQUESTS // 4
    for wanted, scored in scores:
        expected_scores = await alone.engine.score(wanted)
        for one, other in zip(scored.continuations, expected_scores.continuations, strict=True):
            assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)
            assert one.greedy == other.greedy


async def _leaves_nothing_behind(
    decoder: Decoder, num_slots: int, before: set[asyncio.Task[Any]]
) -> None:
    """No sequence waits, no search goes on, and every slot can be had again."""
    await until_idle(decoder)
    async with asyncio.timeout(60.0):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0.001)
        streams = [
            decoder.engine.generate(request(decoder, "Who ?", max_tokens=400))
            for _ in range(num_slots)
        ]
        while decoder.engine.num_running < num_slots:
            await asyncio.sleep(0.001)
    for stream in streams:
        stream.cancel()
    await until_idle(decoder)
