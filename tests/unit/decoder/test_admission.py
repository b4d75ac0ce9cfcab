"""Who is taken on by a busy engine: nobody whose answer would come after they have gone."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from memory3_decoder.decoder import Decoder
from memory3_decoder.engine.admission import Turnover
from memory3_decoder.parameters import Demand, ScoringRequest

from memory3.errors import DeadlineExceededError, Memory3Error, QueueFullError
from tests.unit.decoder.calls import ask, collect, request, until_idle
from tests.unit.decoder.conftest import MakeDecoder
from tests.unit.decoder.held_model import HeldModel

# Each step takes so long: other work of the machine changes little about that.
STEP_S = 0.02
NUM_TOKENS = 10
ANSWER_S = NUM_TOKENS * STEP_S


def _in(decoder: Decoder, seconds: float, **wishes: Any) -> Any:
    given = {"max_tokens": NUM_TOKENS, **wishes}
    return request(decoder, "Who ?", deadline=time.monotonic() + seconds, **given)


async def _fill(decoder: Decoder, count: int, caller: str = "") -> list[asyncio.Task[Any]]:
    """Requests without deadlines, all of them in the engine."""
    wanted = request(decoder, "Who ?", max_tokens=NUM_TOKENS)
    streams = [decoder.engine.generate(wanted, caller=caller) for _ in range(count)]
    tasks = [asyncio.create_task(collect(stream)) for stream in streams]
    while not decoder.engine.num_running:
        await asyncio.sleep(0.001)
    return tasks


async def test_who_would_be_answered_too_late_is_refused_at_once(
    make_decoder: MakeDecoder, model: HeldModel
) -> None:
    """It is told when to come back, and who has more time is taken and answered."""
    decoder = await make_decoder(num_slots=1)
    model.pause_s = STEP_S
    await ask(decoder, "Who ?", max_tokens=NUM_TOKENS)
    others = await _fill(decoder, 5)
    with pytest.raises(QueueFullError) as raised:
        decoder.engine.generate(_in(decoder, 2 * ANSWER_S))
    assert raised.value.field == "deadline"
    assert "free before it begins" in raised.value.message
    retry_after_s = raised.value.retry_after_s
    assert retry_after_s is not None
    assert retry_after_s >= ANSWER_S
    (answer,) = await collect(decoder.engine.generate(_in(decoder, 60.0)))
    assert len(answer.tokens) == NUM_TOKENS
    await asyncio.gather(*others)


async def test_a_free_slot_is_given_to_whoever_comes(
    make_decoder: MakeDecoder, model: HeldModel
) -> None:
    """However little time it gives: the estimate may be wrong, and nobody else wants the slot."""
    decoder = await make_decoder(num_slots=2)
    model.pause_s = STEP_S
    await ask(decoder, "Who ?", max_tokens=NUM_TOKENS)
    others = await _fill(decoder, 1)
    with pytest.raises(DeadlineExceededError):
        await collect(decoder.engine.generate(_in(decoder, ANSWER_S / 4)))
    await asyncio.gather(*others)


async def test_who_comes_back_after_the_delay_is_taken(
    make_decoder: MakeDecoder, model: HeldModel
) -> None:
    """The delay is that after which the others are through, not a number that suits all."""
    decoder = await make_decoder(num_slots=1)
    model.pause_s = STEP_S
    for _ in range(3):
        await ask(decoder, "Who ?", max_tokens=NUM_TOKENS)
    others = await _fill(decoder, 6)
    delays: list[float | None] = []
    num_tokens = 0
    while not num_tokens:
        try:
            (answer,) = await collect(decoder.engine.generate(_in(decoder, 4 * ANSWER_S)))
            num_tokens = len(answer.tokens)
        except QueueFullError as error:
            delays.append(error.retry_after_s)
            await asyncio.sleep(error.retry_after_s or 0.0)
    assert num_tokens == NUM_TOKENS
    assert None not in delays
    # More than one only where the machine was slower than before.
    assert 1 <= len(delays) <= 4
    await asyncio.gather(*others)


async def test_a_long_queue_of_one_caller_makes_no_other_late(
    make_decoder: MakeDecoder, model: HeldModel
) -> None:
    """Callers take turns, so each waits for its own requests and no more than that of others."""
    decoder = await make_decoder(num_slots=1)
    model.pause_s = STEP_S
    await ask(decoder, "Who ?", max_tokens=NUM_TOKENS)
    others = await _fill(decoder, 40, caller="greedy")
    seconds = 20 * ANSWER_S
    with pytest.raises(QueueFullError):
        decoder.engine.generate(_in(decoder, seconds), caller="greedy")
    (answer,) = await collect(decoder.engine.generate(_in(decoder, seconds), caller="modest"))
    assert len(answer.tokens) == NUM_TOKENS
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await until_idle(decoder)


async def test_under_overload_those_taken_on_are_answered_in_time(
    make_decoder: MakeDecoder, model: HeldModel
) -> None:
    """Of many times more requests than can be served, few are begun and left unfinished."""
    decoder = await make_decoder(num_slots=4, queue_size=128)
    # Longer steps, beside which what a busy machine adds is little.
    model.pause_s = 2.5 * STEP_S
    answer_s = NUM_TOKENS * model.pause_s
    await asyncio.gather(*(ask(decoder, "Who ?", max_tokens=NUM_TOKENS) for _ in range(4)))
    outcomes: list[str] = []

    async def one() -> None:
        try:
            await collect(decoder.engine.generate(_in(decoder, 5 * answer_s)))
        except Memory3Error as error:
            outcomes.append(error.reason)
        else:
            outcomes.append("answered")

    tasks = []
    for _ in range(200):
        tasks.append(asyncio.create_task(one()))
        await asyncio.sleep(0.025)
    await asyncio.gather(*tasks)
    counts = {outcome: outcomes.count(outcome) for outcome in set(outcomes)}
    assert counts.keys() <= {"answered", "QUEUE_FULL", "DEADLINE_EXCEEDED"}
    assert counts["QUEUE_FULL"] > 100
    # Without admission nearly all that are begun come too late: 128 wait, and 20 can be served.
    assert counts.get("DEADLINE_EXCEEDED", 0) < 0.2 * counts["answered"]
    metrics = decoder.engine._metrics.refused
    assert metrics.labels("deadline")._value.get() == counts["QUEUE_FULL"]


async def test_a_slot_is_not_given_to_who_has_waited_too_long(
    make_decoder: MakeDecoder, model: HeldModel
) -> None:
    """Where the model became slower meanwhile: the slot is the next one's, at once."""
    decoder = await make_decoder(num_slots=1)
    model.pause_s = STEP_S
    await ask(decoder, "Who ?", max_tokens=NUM_TOKENS)
    running = await _fill(decoder, 1)
    impatient = decoder.engine.generate(_in(decoder, 8 * ANSWER_S))
    patient = decoder.engine.generate(request(decoder, "Where ?", max_tokens=3))
    await model.until_held()
    await asyncio.sleep(7.5 * ANSWER_S)
    model.gate.set()
    with pytest.raises(Memory3Error) as raised:
        await collect(impatient)
    # Past its deadline by then where the machine was slow as well.
    assert isinstance(raised.value, QueueFullError | DeadlineExceededError)
    (answer,) = await collect(patient)
    assert len(answer.tokens) == 3
    await asyncio.gather(*running)


def test_who_waits_starts_only_with_time_for_an_answer() -> None:
    """An answer takes 1 s for ten tokens: with half of it left five can come in time, not ten."""
    now = 0.0
    turnover = Turnover(1, clock=lambda: now)
    turnover.begin(0)
    now = 1.0
    turnover.end(0, 10)

    def wanted(max_tokens: int, seconds: float | None) -> Demand:
        deadline = None if seconds is None else time.monotonic() + seconds
        return Demand(num_choices=1, max_tokens=max_tokens, deadline=deadline)

    for max_tokens, seconds in ((10, 60.0), (10, None), (4, 0.5)):
        turnover.check_start(wanted(max_tokens, seconds))
    with pytest.raises(QueueFullError) as raised:
        turnover.check_start(wanted(10, 0.5))
    assert (raised.value.field, raised.value.retry_after_s) == ("deadline", 1.0)


async def test_too_many_scoring_calls_are_told_how_long_one_takes(
    make_decoder: MakeDecoder, model: HeldModel
) -> None:
    """Nothing is known of the first; afterwards the delay is that in which one of them ends."""
    decoder = await make_decoder(num_slots=1, queue_size=0)
    scoring = ScoringRequest(prompt_tokens=(5, 6), continuations=((7,),))
    await decoder.engine.score(scoring)
    first = asyncio.create_task(decoder.engine.score(scoring))
    await asyncio.sleep(0)
    with pytest.raises(QueueFullError) as raised:
        await decoder.engine.score(scoring)
    assert raised.value.retry_after_s is not None
    assert 0 < raised.value.retry_after_s < 1.0
    await first


def test_the_turnover_is_that_of_the_last_few() -> None:
    """Seconds until slots come free, by hand: two slots, held for 1 s, and later for 3 s."""
    now = 0.0
    turnover = Turnover(2, clock=lambda: now)
    assert turnover.wait_s(4) is None
    assert turnover.answer_s(10) == 0.0

    def answer(seconds: float, max_tokens: int | None = 10) -> None:
        nonlocal now
        turnover.begin(0)
        now += seconds
        turnover.end(0, max_tokens)

    answer(1.0)
    answer(1.0)
    assert turnover.wait_s(4) == 2.0
    assert turnover.wait_s(-1) == 0.0
    assert turnover.answer_s(10) == turnover.answer_s(20) == 1.0
    assert turnover.answer_s(5) == 0.5
    # One who left early made room, and tells nothing about the length of answers.
    answer(0.4, None)
    assert turnover.wait_s(2) == pytest.approx(0.8)
    assert turnover.answer_s(10) == 1.0
    for _ in range(100):
        answer(3.0)
    assert turnover.wait_s(4) == pytest.approx(6.0, rel=0.01)
