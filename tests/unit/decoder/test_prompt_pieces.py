"""Prompts in pieces: what a turn reads, who reads it when, and that the answer is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory3_decoder.decoder import Decoder
from memory3_decoder.engine.pieces import Pieces
from memory3_decoder.model.runner import ModelRunner
from memory3_decoder.parameters import MemoryOptions, ScoringRequest

from memory3.errors import SettingsError
from tests.unit.decoder.calls import ask, collect, prompt_of, request, until_idle
from tests.unit.decoder.conftest import CHUNK_LENGTH, MakeDecoder
from tests.unit.decoder.scripted_retriever import BANK

LONG = 7 * CHUNK_LENGTH - 3


@dataclass
class ModelLog:
    """What the model was given, in order: ("read", slot, tokens), ("score", tokens) or ("step",).

    Attributes:
        calls: One entry for each call.
        on_read: Called before every piece of a prompt with its slot.
    """

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    on_read: Callable[[int], None] = lambda _: None

    def read(self, slot: int | None = None) -> list[int]:
        """Tokens of each piece that was read, of one slot or of all."""
        return [call[2] for call in self.calls if call[0] == "read" and slot in (None, call[1])]

    def turns(self) -> list[list[tuple[Any, ...]]]:
        """The calls between two steps, each list without the step that ends it."""
        turns: list[list[tuple[Any, ...]]] = [[]]
        for call in self.calls:
            if call[0] == "step":
                turns.append([])
            else:
                turns[-1].append(call)
        return turns


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> ModelLog:
    """The record of the model's work, for decoders made in this test."""
    kept = ModelLog()
    prefill, step, score = ModelRunner.prefill, ModelRunner.step, ModelRunner.score

    async def logged_prefill(runner: ModelRunner, job: Any) -> Any:
        kept.on_read(job.slot)
        kept.calls.append(("read", job.slot, len(job.piece.tokens)))
        return await prefill(runner, job)

    async def logged_step(runner: ModelRunner, rows: Any) -> Any:
        kept.calls.append(("step",))
        return await step(runner, rows)

    async def logged_score(runner: ModelRunner, piece: Any, targets: Any) -> Any:
        kept.calls.append(("score", len(piece.tokens)))
        return await score(runner, piece, targets)

    monkeypatch.setattr(ModelRunner, "prefill", logged_prefill)
    monkeypatch.setattr(ModelRunner, "step", logged_step)
    monkeypatch.setattr(ModelRunner, "score", logged_score)
    return kept


@given(
    num_tokens=st.integers(0, 200),
    budgets=st.lists(st.integers(-1, 90), max_size=30),
    size=st.integers(1, 40),
)
def test_pieces_are_the_prompt(num_tokens: int, budgets: Sequence[int], size: int) -> None:
    """Whole chunks up to the last piece, each with its own memories, never above the budget."""
    tokens = list(range(num_tokens))
    chunks: list[Any] = [[number] for number in range(max(1, -(-num_tokens // size)))]
    pieces, seen, seen_chunks = Pieces(tokens, chunks, size), [], []
    for budget in [*budgets, max(1, num_tokens)]:
        piece = pieces.take(budget)
        if piece is None:
            assert budget < min(size, max(1, pieces.num_left))
            continue
        assert piece.cost <= budget
        assert (piece.start, piece.stop) == (len(seen), len(seen) + len(piece.tokens))
        assert piece.is_last or piece.stop % size == 0
        assert len(piece.chunk_memories) == max(1, -(-len(piece.tokens) // size))
        seen.extend(piece.tokens)
        seen_chunks.extend(piece.chunk_memories)
        if piece.is_last:
            break
    assert (seen, seen_chunks, pieces.num_left) == (tokens, chunks, 0)


async def test_running_sequences_step_between_the_pieces(
    make_decoder: MakeDecoder, log: ModelLog
) -> None:
    """While a long prompt is read, no turn reads more than the budget, and each has a step."""
    decoder: Decoder = await make_decoder(num_slots=2, prefill_tokens=2 * CHUNK_LENGTH)
    running = decoder.engine.generate(request(decoder, "Who ?", max_tokens=400))
    await anext(running)
    answer = await ask(decoder, prompt_of(decoder, LONG), max_tokens=2)
    running.cancel()
    assert log.read(1) == [2 * CHUNK_LENGTH] * 3 + [CHUNK_LENGTH - 3]
    with_pieces = [turn for turn in log.turns() if any(call[1] == 1 for call in turn)]
    assert [len(turn) for turn in with_pieces] == [1] * 4
    alone: Decoder = await make_decoder(prefill_tokens=4096)
    assert answer.tokens == (await ask(alone, prompt_of(alone, LONG), max_tokens=2)).tokens


async def test_short_prompts_share_a_turn(make_decoder: MakeDecoder, log: ModelLog) -> None:
    """As many prompts are read before a step as the budget has room for."""
    decoder: Decoder = await make_decoder(num_slots=4, prefill_tokens=2 * CHUNK_LENGTH)
    prompt = prompt_of(decoder, 10)
    await asyncio.gather(*(ask(decoder, prompt, max_tokens=5) for _ in range(4)))
    assert [len(turn) for turn in log.turns()[:2]] == [3, 1]


async def test_a_short_prompt_does_not_wait_for_a_long_one(
    make_decoder: MakeDecoder, log: ModelLog
) -> None:
    """Prompts with slots take turns, a piece each."""
    decoder: Decoder = await make_decoder(num_slots=2, prefill_tokens=CHUNK_LENGTH)
    prompts = prompt_of(decoder, LONG), prompt_of(decoder, 10)
    await asyncio.gather(*(ask(decoder, prompt, max_tokens=2) for prompt in prompts))
    assert log.read() == [CHUNK_LENGTH, 10] + [CHUNK_LENGTH] * 5 + [CHUNK_LENGTH - 3]


async def test_leaving_in_the_middle_of_a_prompt_frees_the_slot(
    make_decoder: MakeDecoder, log: ModelLog
) -> None:
    """What is left of the prompt is never read, and the next one finds nothing of it."""
    decoder: Decoder = await make_decoder(
        num_slots=1, prefill_tokens=CHUNK_LENGTH, prefix_cache_bytes=0
    )
    stream = decoder.engine.generate(request(decoder, prompt_of(decoder, LONG)))
    log.on_read = lambda _: stream.cancel() if len(log.read()) == 2 else None
    next_one = asyncio.create_task(ask(decoder, prompt_of(decoder, 40), max_tokens=5))
    assert [event async for event in stream] == []
    answer = await next_one
    assert log.read() == [CHUNK_LENGTH] * 3 + [CHUNK_LENGTH, CHUNK_LENGTH, 8]
    await until_idle(decoder)
    assert answer.tokens == (await ask(decoder, prompt_of(decoder, 40), max_tokens=5)).tokens


async def test_the_report_of_a_prompt_in_pieces_is_that_of_the_whole(
    make_decoder: MakeDecoder,
) -> None:
    """Every chunk of the prompt reads its own memories and tells how much."""
    reports = []
    for prefill_tokens in (CHUNK_LENGTH, 4096):
        decoder: Decoder = await make_decoder(prefill_tokens=prefill_tokens)
        wanted = request(
            decoder, prompt_of(decoder, LONG), bank=BANK, memory=MemoryOptions(report=True)
        )
        (answer,) = await collect(decoder.engine.generate(wanted))
        reports.append(answer.end.chunks)
    pieces, whole = reports
    assert [chunk.start_token for chunk in pieces] == [chunk.start_token for chunk in whole]
    for chunk, expected in zip(pieces, whole, strict=True):
        assert [r.id for r in chunk.references] == [r.id for r in expected.references]
        masses = [r.attention_mass for r in chunk.references]
        assert masses == pytest.approx([r.attention_mass for r in expected.references], abs=1e-5)
        assert all(mass > 0 for mass in masses)


async def test_scores_are_read_in_pieces(make_decoder: MakeDecoder, log: ModelLog) -> None:
    """A long text to score never takes more of a turn than a prompt does."""
    scoring = ScoringRequest(
        prompt_tokens=tuple(range(10, 10 + 40)),
        continuations=(tuple(range(60, 60 + 41)), (70,)),
    )
    whole: Decoder = await make_decoder(prefill_tokens=4096)
    expected = await whole.engine.score(scoring)
    assert log.calls == [("score", 80), ("score", 40)]
    log.calls.clear()
    decoder: Decoder = await make_decoder(prefill_tokens=2 * CHUNK_LENGTH)
    scores = await decoder.engine.score(scoring)
    assert log.calls == [("score", size) for size in (32, 32, 16, 16, 24)]
    for one, other in zip(scores.continuations, expected.continuations, strict=True):
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)
        assert one.greedy == other.greedy


async def test_a_budget_below_a_chunk_is_refused(make_decoder: MakeDecoder) -> None:
    """Less than a chunk could never be read."""
    with pytest.raises(SettingsError) as raised:
        await make_decoder(prefill_tokens=CHUNK_LENGTH - 1)
    assert raised.value.field == "prefill_tokens"
