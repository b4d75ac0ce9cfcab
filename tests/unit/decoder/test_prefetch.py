"""Looking for the next chunk's memories before the chunk is full."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.decoder.calls import ask
from tests.unit.decoder.conftest import CHUNK_LENGTH, MakeDecoder
from tests.unit.decoder.held_model import HeldModel
from tests.unit.decoder.scripted_retriever import BANK, ScriptedRetriever


@pytest.mark.parametrize("prefetch", [0, 2, 12, CHUNK_LENGTH - 1])
async def test_the_query_is_the_first_tokens_of_the_chunk(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever, prefetch: int
) -> None:
    """Each search has the first tokens of its chunk; what it finds is read from the next on."""
    decoder = await make_decoder(prefetch_tokens=prefetch)
    answer = await ask(decoder, "Who is it ?", bank=BANK, max_tokens=3 * CHUNK_LENGTH + 2)
    prompt_tokens = len(decoder.requests.tokens("Who is it ?", "prompt"))
    expected = []
    for start in range(0, 3 * CHUNK_LENGTH, CHUNK_LENGTH):
        part = answer.tokens[start : start + (prefetch or CHUNK_LENGTH)]
        text = decoder.checkpoint.tokenizer.decode(part, skip_special_tokens=True)
        expected.append(text.strip("\ufffd").strip())
    asked = [query.text for sent in retriever.requests[1:] for query in sent.queries]
    assert asked == expected
    generated = answer.attached[-4:]
    assert [chunk.start_token for chunk in generated] == [
        prompt_tokens + number * CHUNK_LENGTH for number in range(4)
    ]
    for text, chunk in zip(expected, generated[1:], strict=True):
        assert {reference.id for reference in chunk.references} == {
            key for key, _ in retriever.search(text, len(chunk.references))
        }


@pytest.mark.parametrize("prefetch", [0, 4])
async def test_a_search_that_hangs_holds_the_next_chunk_only(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever, model: HeldModel, prefetch: int
) -> None:
    """The rest of a chunk is decoded while its search hangs; the next chunk waits for it."""
    decoder = await make_decoder(prefetch_tokens=prefetch)
    wanted: dict[str, Any] = {"bank": BANK, "max_tokens": CHUNK_LENGTH + 8}
    expected = await ask(decoder, "Who is it ?", **wanted)
    retriever.held_after = len(retriever.requests) + 1
    retriever.gate.clear()
    before = model.num_steps
    slow = asyncio.create_task(ask(decoder, "Who is it ?", **wanted))
    # The token after the chunk's last comes from reading that one, under the old memories.
    async with asyncio.timeout(30):
        while model.num_steps - before < CHUNK_LENGTH + 1:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    assert model.num_steps - before == CHUNK_LENGTH + 1
    assert not slow.done()
    retriever.gate.set()
    answer = await slow
    assert (answer.tokens, answer.chunk_ids) == (expected.tokens, expected.chunk_ids)


async def test_memories_found_within_the_chunk_are_not_waited_for(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever, model: HeldModel
) -> None:
    """A slow search that ends before its chunk is full leaves nothing to wait for at its border."""
    decoder = await make_decoder(prefetch_tokens=2)
    # Slow enough for the search to begin before the chunk ends, on the busiest machine.
    before, model.pause_s = model.num_steps, 0.2
    retriever.held_after = 1
    retriever.gate.clear()
    wanted: dict[str, Any] = {"bank": BANK, "max_tokens": CHUNK_LENGTH + 8}
    slow = asyncio.create_task(ask(decoder, "Who is it ?", **wanted))
    async with asyncio.timeout(30):
        while len(retriever.requests) < 2:
            await asyncio.sleep(0.001)
        await model.until_held()
        assert model.num_steps - before <= CHUNK_LENGTH
        (sequence,) = decoder.engine._loop.slots
        retriever.gate.set()
        while sequence.refreshing is not None:
            await asyncio.sleep(0.001)
    # With the retriever closed again, the border is passed with what is there already.
    retriever.gate.clear()
    model.pause_s = 0.0
    model.gate.set()
    answer = await asyncio.wait_for(slow, 30)
    assert len(answer.tokens) == CHUNK_LENGTH + 8
    assert len(answer.attached) == 3
