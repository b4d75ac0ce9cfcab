"""Sequences that leave their slots to those that wait, and go on where they were."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from memory3_decoder.decoder import Decoder
from memory3_decoder.parameters import MemoryOptions, SessionOptions

from tests.unit.decoder.calls import Answer, ask, collect, metric, prompt_of, request, until_idle
from tests.unit.decoder.conftest import CHUNK_LENGTH, MakeDecoder
from tests.unit.decoder.held_model import HeldModel
from tests.unit.decoder.scripted_retriever import BANK, ScriptedRetriever

LONG = 4 * CHUNK_LENGTH


async def _long_beside_short(decoder: Decoder) -> tuple[Answer, bool]:
    """A long answer that was begun before a short one, and whether it ended before it too."""
    memory = MemoryOptions(report=True)
    wanted = request(decoder, "Who is it ?", bank=BANK, max_tokens=LONG, memory=memory)
    long = asyncio.create_task(collect(decoder.engine.generate(wanted)))
    while not decoder.engine.num_running:
        await asyncio.sleep(0.001)
    short = await ask(decoder, "Where ?", max_tokens=3)
    assert len(short.tokens) == 3
    was_done = long.done()
    (answer,) = await long
    return answer, was_done


async def test_a_short_answer_does_not_wait_for_a_long_one(
    make_decoder: MakeDecoder, model: HeldModel
) -> None:
    """The long one leaves the only slot after its turn, and its answer stays what it is alone:
    tokens, the memories of every chunk and how they were attended to.
    """
    model.pause_s = 0.002
    patient: Decoder = await make_decoder(num_slots=1, turn_tokens=0)
    alone, was_done = await _long_beside_short(patient)
    assert was_done
    assert metric(patient, "num_preemptions_total") == 0

    sharing: Decoder = await make_decoder(num_slots=1, turn_tokens=7)
    shared, was_done = await _long_beside_short(sharing)
    assert not was_done
    assert metric(sharing, "num_preemptions_total") >= 1
    assert shared.tokens == alone.tokens
    assert shared.chunk_ids == alone.chunk_ids
    assert len(shared.chunk_ids) > 3
    assert shared.end.chunks == alone.end.chunks
    assert shared.end.usage.retrievals == alone.end.usage.retrievals


async def test_without_room_for_what_it_holds_nobody_leaves(
    make_decoder: MakeDecoder, model: HeldModel
) -> None:
    """The bytes of those who left are bounded; where there are none to spare, slots are kept."""
    model.pause_s = 0.002
    decoder: Decoder = await make_decoder(num_slots=1, turn_tokens=7, suspended_bytes=1000)
    _, was_done = await _long_beside_short(decoder)
    assert was_done
    assert metric(decoder, "num_preemptions_total") == 0


async def test_leaving_while_suspended_leaves_nothing_behind(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """A caller goes while its sequence has no slot and looks for memories: both are let go."""
    decoder: Decoder = await make_decoder(num_slots=1, turn_tokens=CHUNK_LENGTH)
    engine_tasks = asyncio.all_tasks()
    retriever.held_after = 1
    retriever.gate.clear()
    wanted = request(decoder, "Who is it ?", bank=BANK, max_tokens=LONG)
    stream = decoder.engine.generate(wanted)
    while len(retriever.requests) < 2:
        await asyncio.sleep(0.001)
    # It waits for memories that do not come, so this one takes its slot.
    other = asyncio.create_task(ask(decoder, "Where ?", max_tokens=CHUNK_LENGTH + 100))
    while not metric(decoder, "suspended_bytes"):
        await asyncio.sleep(0.001)
    stream.cancel()
    assert len((await other).tokens) == CHUNK_LENGTH + 100
    await until_idle(decoder)
    assert metric(decoder, "suspended_bytes") == 0
    async with asyncio.timeout(60.0):
        while asyncio.all_tasks() - engine_tasks:
            await asyncio.sleep(0.001)
    retriever.gate.set()


async def test_all_take_turns_and_all_end(make_decoder: MakeDecoder) -> None:
    """Ten long answers over two slots, suspended again and again, are those of one at a time."""
    decoder: Decoder = await make_decoder(num_slots=2, turn_tokens=5)
    one_by_one: Decoder = await make_decoder(num_slots=1, turn_tokens=0)
    prompts = [f"Who was the painter {number} ?" for number in range(10)]
    together = await asyncio.gather(
        *(ask(decoder, prompt, bank=BANK, max_tokens=LONG) for prompt in prompts)
    )
    assert metric(decoder, "num_preemptions_total") >= 20
    for prompt, answer in zip(prompts, together, strict=True):
        alone = await ask(one_by_one, prompt, bank=BANK, max_tokens=LONG)
        assert answer.tokens == alone.tokens
        assert answer.chunk_ids == alone.chunk_ids


async def test_sessions_take_turns_too(make_decoder: MakeDecoder) -> None:
    """Windows that move, penalties, a stop string and a report come out as they do alone."""
    decoder: Decoder = await make_decoder(num_slots=2, turn_tokens=9, context_length=160)
    one_by_one: Decoder = await make_decoder(num_slots=1, turn_tokens=0, context_length=160)
    memory = MemoryOptions(session=SessionOptions(), report=True)
    wishes: dict[str, Any] = {"max_tokens": 150, "memory": memory, "temperature": 1.0, "seed": 3}
    wishes |= {"bank": BANK, "repetition_penalty": 1.2, "presence_penalty": 0.3}
    prompts = [prompt_of(decoder, 220, start=start) for start in range(4)]
    wishes["stop"] = (_late_piece(await ask(one_by_one, prompts[0], **wishes)),)
    together = await asyncio.gather(*(ask(decoder, prompt, **wishes) for prompt in prompts))
    assert metric(decoder, "num_preemptions_total") >= 4
    assert metric(decoder, "session_moves_total") >= 4
    for prompt, answer in zip(prompts, together, strict=True):
        alone = await ask(one_by_one, prompt, **wishes)
        assert answer.text == alone.text
        assert answer.tokens == alone.tokens
        assert answer.chunk_ids == alone.chunk_ids
        assert answer.end.reason == alone.end.reason
        for one, other in zip(answer.end.chunks, alone.end.chunks, strict=True):
            assert [r.span for r in one.references] == [r.span for r in other.references]
            masses = [[r.attention_mass for r in chunk.references] for chunk in (one, other)]
            assert masses[0] == pytest.approx(masses[1], abs=1e-5)
    assert together[0].end.stop == wishes["stop"][0]


def _late_piece(answer: Answer) -> str:
    """Some characters that first come in the last third of a text."""
    text = answer.text
    for start in range(len(text) * 2 // 3, len(text) - 4):
        if text.find(text[start : start + 4]) == start:
            return text[start : start + 4]
    raise AssertionError("the text repeats itself")
