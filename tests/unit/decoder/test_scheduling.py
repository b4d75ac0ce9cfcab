"""Slots, queue and batch: who runs when, and that nobody's answer depends on the others."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import torch
from memory3_decoder.decoder import Decoder
from memory3_decoder.events import Finished
from memory3_decoder.model import worker as worker_module
from memory3_decoder.parameters import ScoringRequest

from memory3.errors import (
    DeadlineExceededError,
    DrainingError,
    InternalError,
    InvalidArgumentError,
    QueueFullError,
)
from tests.unit.decoder.calls import ask, collect, request, until_idle
from tests.unit.decoder.conftest import CHUNK_LENGTH, MakeDecoder
from tests.unit.decoder.held_model import HeldModel
from tests.unit.decoder.scripted_retriever import BANK, ScriptedRetriever


async def test_a_slow_retriever_stalls_its_own_sequence_only(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """While one sequence waits for its next chunk's memories, others begin and end."""
    decoder = await make_decoder(num_slots=2)
    retriever.held_after = 1
    retriever.gate.clear()
    slow = asyncio.create_task(ask(decoder, "Who is it ?", bank=BANK, max_tokens=CHUNK_LENGTH + 5))
    while len(retriever.requests) < 2:
        await asyncio.sleep(0.001)
    for _ in range(5):
        answer = await ask(decoder, "Where is it ?", max_tokens=20)
        assert len(answer.tokens) == 20
    assert not slow.done()
    retriever.gate.set()
    assert len((await slow).tokens) == CHUNK_LENGTH + 5


async def test_a_slow_prompt_holds_no_slot(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """A sequence whose prompt still looks for memories lets those behind it pass."""
    decoder = await make_decoder(num_slots=1)
    retriever.held_word = "painter"
    retriever.gate.clear()
    slow = asyncio.create_task(ask(decoder, "the painter ?", bank=BANK, max_tokens=3))
    while not retriever.requests:
        await asyncio.sleep(0.001)
    quick = await ask(decoder, "the singer ?", bank=BANK, max_tokens=3)
    assert len(quick.tokens) == 3
    assert not slow.done()
    retriever.gate.set()
    assert (await slow).end.degraded_reason == ""


async def test_leaving_frees_the_slot(make_decoder: MakeDecoder, model: HeldModel) -> None:
    """After a cancel the slot is given to the next sequence, within a step."""
    decoder = await make_decoder(num_slots=1)
    stream = decoder.engine.generate(request(decoder, "Who ?", max_tokens=400))
    await anext(stream)
    await model.until_held()
    next_one = asyncio.create_task(ask(decoder, "Where ?", max_tokens=3))
    while not decoder.engine.num_waiting:
        await asyncio.sleep(0.001)
    assert (decoder.engine.num_running, decoder.engine.num_waiting) == (1, 1)
    before = model.num_steps
    stream.cancel()
    model.gate.set()
    assert len((await next_one).tokens) == 3
    # Of the one that left no more than a step that had been begun.
    assert model.num_steps - before <= 3 + 1
    await until_idle(decoder)
    assert [event async for event in stream if isinstance(event, Finished)] == []


async def test_a_full_queue_refuses_with_a_time_to_come_back(make_decoder: MakeDecoder) -> None:
    """Slots and queue have room for three; the fourth is refused, and room comes back."""
    decoder = await make_decoder(num_slots=1, queue_size=2)
    streams = [decoder.engine.generate(request(decoder, "Who ?", max_tokens=300)) for _ in range(3)]
    with pytest.raises(QueueFullError) as raised:
        decoder.engine.generate(request(decoder, "Who ?"))
    assert raised.value.retry_after_s == 1.0
    for stream in streams:
        stream.cancel()
    await until_idle(decoder)
    assert len((await ask(decoder, "Who ?", max_tokens=2)).tokens) == 2
    with pytest.raises(InvalidArgumentError) as invalid:
        decoder.engine.generate(request(decoder, "Who ?", n=4))
    assert invalid.value.field == "sampling.n"


async def test_a_deadline_ends_running_and_waiting_sequences(
    make_decoder: MakeDecoder, model: HeldModel
) -> None:
    """Past its deadline a request fails and gives back its slot or its place."""
    decoder = await make_decoder(num_slots=1)
    # 400 tokens take eight seconds at least.
    model.pause_s = 0.02
    running = request(decoder, "Who ?", max_tokens=400, deadline=time.monotonic() + 0.3)
    waiting = request(decoder, "Where ?", max_tokens=400, deadline=time.monotonic() + 0.2)
    results = await asyncio.gather(
        *(collect(decoder.engine.generate(wanted)) for wanted in (running, waiting)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [DeadlineExceededError] * 2
    await until_idle(decoder)


async def test_a_deadline_ends_a_wait_for_memories(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """The time for a retrieval is never longer than the caller's own."""
    decoder = await make_decoder()
    retriever.gate.clear()
    wanted = request(decoder, "Who ?", bank=BANK, deadline=time.monotonic() + 0.3)
    async with asyncio.timeout(50.0):
        with pytest.raises(DeadlineExceededError):
            await collect(decoder.engine.generate(wanted))
    await until_idle(decoder)


async def test_scores_run_between_the_steps_of_others(make_decoder: MakeDecoder) -> None:
    """Scoring and generating go on at the same time, and both get what they get alone."""
    decoder = await make_decoder(num_slots=2)
    scoring = ScoringRequest(
        prompt_tokens=tuple(range(10, 40)), continuations=((50, 51), (60,), (70, 71, 72))
    )
    expected = await decoder.engine.score(scoring)
    plain = await ask(decoder, "Who ?", max_tokens=60)
    results = await asyncio.gather(
        ask(decoder, "Who ?", max_tokens=60),
        decoder.engine.score(scoring),
        ask(decoder, "Who ?", max_tokens=60),
        decoder.engine.score(scoring),
    )
    assert [results[0].tokens, results[2].tokens] == [plain.tokens] * 2
    assert [results[1], results[3]] == [expected] * 2


async def test_a_model_that_fails_ends_its_requests_and_nothing_else(
    make_decoder: MakeDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect inside a step is an INTERNAL error for that step; the engine goes on."""
    decoder = await make_decoder()
    plain = await ask(decoder, "Who ?")
    real, calls = worker_module.sample, []

    def breaking(logits: torch.Tensor, states: Any) -> Any:
        calls.append(len(states))
        if len(calls) == 4:
            raise RuntimeError("out of memory")
        return real(logits, states)

    monkeypatch.setattr(worker_module, "sample", breaking)
    with pytest.raises(InternalError):
        await ask(decoder, "Who ?")
    assert (await ask(decoder, "Who ?")).tokens == plain.tokens
    await until_idle(decoder)


async def test_closing_fails_what_is_not_finished_and_takes_no_more(
    make_decoder: MakeDecoder, model: HeldModel
) -> None:
    """Callers still waiting at the end learn that the decoder is shutting down."""
    decoder = await make_decoder(num_slots=1)
    model.pause_s = 0.02
    tasks = [asyncio.create_task(ask(decoder, "Who ?", max_tokens=400)) for _ in range(3)]
    while not model.num_steps:
        await asyncio.sleep(0.001)
    await decoder.engine.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [DrainingError] * 3
    with pytest.raises(DrainingError):
        decoder.engine.generate(request(decoder, "Who ?"))
    with pytest.raises(DrainingError):
        await decoder.engine.score(ScoringRequest(prompt_tokens=(), continuations=((5,),)))


async def test_the_event_loop_stays_free_while_the_model_works(
    make_decoder: MakeDecoder, model: HeldModel
) -> None:
    """While the model stands in the midst of a step, the loop turns as often as it likes."""
    decoder = await make_decoder()
    tasks = [asyncio.create_task(ask(decoder, "Who ?", max_tokens=20)) for _ in range(4)]
    await model.until_held()
    at = model.num_steps
    for _ in range(100):
        await asyncio.sleep(0.001)
    assert model.num_steps == at
    assert not any(task.done() for task in tasks)
    model.gate.set()
    assert [len(answer.tokens) for answer in await asyncio.gather(*tasks)] == [20] * 4


async def _order_of_ends(decoder: Decoder, asked: list[tuple[str, str, int]]) -> list[str]:
    """Names of requests, given as name, caller and number of choices, as their choices end."""
    ended: list[str] = []

    async def one(name: str, caller: str, n: int) -> None:
        wanted = request(decoder, "Who ?", max_tokens=3, n=n)
        async for event in decoder.engine.generate(wanted, caller=caller):
            if isinstance(event, Finished):
                ended.append(name)

    await asyncio.gather(*(one(*each) for each in asked))
    return ended


async def test_callers_take_turns(make_decoder: MakeDecoder) -> None:
    """Many requests of one caller do not push back those of another, nor a request of its own."""
    decoder = await make_decoder(num_slots=1)
    asked = [("a1", "a", 1), ("a2", "a", 1), ("a3", "a", 1), ("b1", "b", 1), ("b2", "b", 1)]
    asked.append(("alone", "", 1))
    assert await _order_of_ends(decoder, asked) == ["a1", "b1", "alone", "a2", "b2", "a3"]


async def test_many_choices_push_no_other_request_back(make_decoder: MakeDecoder) -> None:
    """The choices of one request take turns with the other requests of the same caller."""
    decoder = await make_decoder(num_slots=1)
    asked = [("many", "a", 4), ("one", "a", 1), ("two", "a", 2), ("other", "b", 2)]
    expected = ["many", "other", "one", "other", "two", "many", "two", "many", "many"]
    assert await _order_of_ends(decoder, asked) == expected


async def test_a_prompt_waits_in_the_order_of_arrival(make_decoder: MakeDecoder) -> None:
    """With one slot, answers end in the order in which they were asked for."""
    decoder = await make_decoder(num_slots=1)
    ended: list[int] = []

    async def one(number: int) -> None:
        await ask(decoder, "Who ?", max_tokens=5)
        ended.append(number)

    await asyncio.gather(*(one(number) for number in range(6)))
    assert ended == list(range(6))
