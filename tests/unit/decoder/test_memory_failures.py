"""What happens when memories do not come: degraded, strict, or never accepted."""

import asyncio
from pathlib import Path

import pytest
from memory3_decoder.parameters import MemoryOptions, ScoringRequest

from memory3.checkpoint import Checkpoint
from memory3.errors import (
    BackendUnavailableError,
    CheckpointMismatchError,
    DeadlineExceededError,
    InternalError,
    Memory3Error,
    NotFoundError,
    ResourceExhaustedError,
)
from memory3.testing.checkpoints import tiny_checkpoint
from tests.unit.decoder.calls import ask, prompt_of, until_idle
from tests.unit.decoder.conftest import CHUNK_LENGTH, MakeDecoder, bank_texts
from tests.unit.decoder.scripted_retriever import BANK, ScriptedRetriever, write_envelopes

DEFAULT = MemoryOptions()
STRICT = MemoryOptions(strict=True)
QUICK = MemoryOptions(retrieval_timeout_s=0.2)
# Ends a test that would wait for ever; says nothing about speed.
PATIENCE_S = 60.0
LONG = 2 * CHUNK_LENGTH + 4


@pytest.mark.parametrize(
    "error",
    [
        BackendUnavailableError("the encoder is down"),
        ResourceExhaustedError("too many calls"),
        InternalError("a defect"),
        DeadlineExceededError("too slow"),
    ],
)
async def test_a_failing_retriever_degrades(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever, error: Memory3Error
) -> None:
    """The text is made without memories, and says so; strict fails with UNAVAILABLE."""
    decoder = await make_decoder()
    retriever.error = error
    plain = await ask(decoder, "Who is it ?", max_tokens=5)
    answer = await ask(decoder, "Who is it ?", bank=BANK, max_tokens=5)
    assert answer.tokens == plain.tokens
    assert answer.end.degraded_reason
    assert answer.chunk_ids == [[], []]
    with pytest.raises(BackendUnavailableError) as raised:
        await ask(decoder, "Who is it ?", bank=BANK, memory=STRICT)
    assert raised.value.field == "memory.strict"
    await until_idle(decoder)


async def test_a_failure_later_keeps_the_memories_that_are_attached(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """Chunks after the failure read what the prompt's last chunk read."""
    decoder = await make_decoder()
    retriever.error, retriever.fail_after = InternalError("a defect"), 1
    answer = await ask(decoder, "Who is it ?", bank=BANK, max_tokens=LONG)
    first = answer.chunk_ids[0]
    assert len(first) == 3
    assert answer.chunk_ids == [first] * 4
    assert answer.end.degraded_reason == "a defect"
    assert answer.end.usage.retrievals == 3


async def test_strict_fails_in_the_middle_too(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """A strict request ends with an error when a later chunk's memories do not come."""
    decoder = await make_decoder()
    retriever.error, retriever.fail_after = InternalError("a defect"), 1
    with pytest.raises(BackendUnavailableError):
        await ask(decoder, "Who is it ?", bank=BANK, memory=STRICT, max_tokens=LONG)
    await until_idle(decoder)


async def test_a_slow_retriever_costs_its_timeout_and_no_more(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """Past the time of the request the sequence goes on without; the answer never comes."""
    decoder = await make_decoder()
    retriever.gate.clear()
    async with asyncio.timeout(PATIENCE_S):
        answer = await ask(decoder, "Who is it ?", bank=BANK, memory=QUICK, max_tokens=3)
    assert answer.end.degraded_reason == "the retriever did not answer within 0.2 s"


@pytest.mark.parametrize("cut_after", [0, 1, 3])
async def test_an_answer_cut_off_is_not_used_in_parts(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever, cut_after: int
) -> None:
    """A stream that breaks off anywhere degrades, and attaches nothing of what came."""
    decoder = await make_decoder()
    retriever.cut_after = cut_after
    answer = await ask(decoder, "Who is it ?", bank=BANK, max_tokens=3)
    assert answer.chunk_ids == [[], []]
    assert answer.end.degraded_reason == "the retriever did not answer: UNAVAILABLE"


async def test_a_retriever_that_has_gone_degrades_and_comes_back(
    make_decoder: MakeDecoder, checkpoint: Checkpoint
) -> None:
    """While it is away the text is made without; nobody learns its address."""
    with ScriptedRetriever(checkpoint, bank_texts()) as first:
        decoder = await make_decoder(retriever=first.address)
        assert (await ask(decoder, "Who ?", bank=BANK)).end.degraded_reason == ""
    away = await ask(decoder, "Who ?", bank=BANK)
    assert away.end.degraded_reason == "the retriever did not answer: UNAVAILABLE"
    with ScriptedRetriever(checkpoint, bank_texts(), address=first.address):
        async with asyncio.timeout(PATIENCE_S):
            while (await ask(decoder, "Who ?", bank=BANK)).end.degraded_reason:
                await asyncio.sleep(0.1)


async def test_a_damaged_memory_degrades(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """An envelope with a flipped bit is noticed and not read."""
    decoder = await make_decoder()
    for key, envelope in retriever.envelopes.items():
        retriever.envelopes[key] = envelope[:-1] + bytes([envelope[-1] ^ 1])
    answer = await ask(decoder, "Who is it ?", bank=BANK, max_tokens=3)
    assert answer.chunk_ids == [[], []]
    assert answer.end.degraded_reason


async def test_memories_left_out_degrade_and_the_others_are_read(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """What the retriever could not write in time is missing; strict does not accept that."""
    decoder = await make_decoder()
    late, *others = [key for key, _ in retriever.search("Who is it ?", 3)]
    retriever.left_out = {late}
    answer = await ask(decoder, "Who is it ?", bank=BANK, max_tokens=3)
    assert answer.chunk_ids == [others, others]
    assert answer.end.degraded_reason == "1 memories were not ready in time"
    with pytest.raises(BackendUnavailableError):
        await ask(decoder, "Who is it ?", bank=BANK, memory=STRICT, max_tokens=3)


async def test_a_bank_of_another_checkpoint_is_never_accepted(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """A mismatch is no degradation: it fails, strict or not, and names the field."""
    decoder = await make_decoder()
    retriever.digest = "0" * 64
    for memory in (DEFAULT, STRICT):
        with pytest.raises(CheckpointMismatchError) as raised:
            await ask(decoder, "Who is it ?", bank=BANK, memory=memory)
        assert raised.value.field == "checkpoint_digest"


async def test_an_envelope_of_another_checkpoint_is_never_read(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever, tmp_path: Path
) -> None:
    """Even where the bank claims to fit, the memory itself is checked."""
    decoder = await make_decoder()
    changes = {"chunk_length": CHUNK_LENGTH, "references_per_chunk": 3, "reference_length": 64}
    other = tiny_checkpoint(tmp_path / "other", seed=1, **changes)
    retriever.envelopes = write_envelopes(other, bank_texts())
    with pytest.raises(CheckpointMismatchError):
        await ask(decoder, "Who is it ?", bank=BANK)


async def test_what_does_not_exist_is_not_found(make_decoder: MakeDecoder) -> None:
    """An unknown bank or reference fails, strict or not."""
    decoder = await make_decoder()
    with pytest.raises(NotFoundError) as raised:
        await ask(decoder, "Who is it ?", bank="banks/other")
    assert raised.value.field == "bank"
    with pytest.raises(NotFoundError):
        await ask(decoder, "Who ?", bank=BANK, memory=MemoryOptions(reference_ids=("f" * 32,)))


async def test_without_a_retriever_a_bank_degrades_and_none_is_plain(
    make_decoder: MakeDecoder,
) -> None:
    """The decoder works alone; who names a bank is told that there are no memories."""
    decoder = await make_decoder(retriever="")
    plain = await ask(decoder, "Who is it ?")
    answer = await ask(decoder, "Who is it ?", bank=BANK)
    assert (plain.end.degraded_reason, answer.tokens) == ("", plain.tokens)
    assert answer.end.degraded_reason == "this decoder has no retriever"
    assert answer.end.usage.retrievals == 0
    with pytest.raises(BackendUnavailableError):
        await ask(decoder, "Who is it ?", bank=BANK, memory=STRICT)


async def test_a_blank_chunk_keeps_the_memories_before_it(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """White space is no query: the second chunk of line breaks reads what the first found."""
    decoder = await make_decoder()
    prompt = prompt_of(decoder, CHUNK_LENGTH) + "\n" * CHUNK_LENGTH
    answer = await ask(decoder, prompt, bank=BANK, max_tokens=2)
    assert len(retriever.requests[0].queries) == 1
    assert len(answer.chunk_ids[0]) == 3
    assert answer.chunk_ids == [answer.chunk_ids[0]] * 3
    blank = await ask(decoder, "\n\n", bank=BANK, max_tokens=2)
    assert blank.chunk_ids == [[], []]
    assert blank.end.degraded_reason == ""


async def test_scores_degrade_or_fail_as_generation_does(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """A failing retriever leaves the plain score and says so; strict and mismatch fail."""
    decoder = await make_decoder()

    def wanted(bank: str, memory: MemoryOptions = DEFAULT) -> ScoringRequest:
        return ScoringRequest(
            prompt_tokens=(5, 6, 7), continuations=((8, 9),), bank=bank, memory=memory
        )

    plain = await decoder.engine.score(wanted(""))
    retriever.error = InternalError("a defect")
    degraded = await decoder.engine.score(wanted(BANK))
    assert degraded.continuations == plain.continuations
    assert (plain.degraded_reason, degraded.degraded_reason) == ("", "a defect")
    with pytest.raises(BackendUnavailableError):
        await decoder.engine.score(wanted(BANK, STRICT))
    retriever.error, retriever.digest = None, "0" * 64
    with pytest.raises(CheckpointMismatchError):
        await decoder.engine.score(wanted(BANK))


@pytest.mark.parametrize("num_before", [0, 1], ids=["prompt", "refresh"])
async def test_cancelling_reaches_the_retriever(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever, num_before: int
) -> None:
    """Who leaves while memories are looked for ends that search at once."""
    decoder = await make_decoder()
    retriever.held_after = num_before
    retriever.gate.clear()
    task = asyncio.create_task(ask(decoder, "Who is it ?", bank=BANK, max_tokens=40))
    while len(retriever.requests) <= num_before:
        await asyncio.sleep(0.01)
    task.cancel()
    async with asyncio.timeout(PATIENCE_S):
        while retriever.num_cancelled == 0:
            await asyncio.sleep(0.005)
    await until_idle(decoder)


async def test_a_memory_sent_once_is_held_and_that_of_another_bank_is_not(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """Held memories give the same tokens as sent ones; a bank made anew has to send its own."""
    decoder = await make_decoder()
    first = await ask(decoder, "Who is it ?", bank=BANK, max_tokens=8)
    again = await ask(decoder, "Who is it ?", bank=BANK, max_tokens=8)
    assert again.tokens == first.tokens
    assert set(retriever.requests[1].held_ids) == set(first.chunk_ids[0])
    retriever.revision = 0
    anew = await ask(decoder, "Who is it ?", bank=BANK, max_tokens=8)
    assert anew.tokens == first.tokens
    assert [len(call.held_ids) for call in retriever.requests[2:]] == [3, 0]
    assert anew.end.usage.retrievals == 2
