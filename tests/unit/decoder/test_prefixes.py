"""Prompts that begin alike are read once, and nothing else about an answer changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory3_decoder.decoder import Decoder
from memory3_decoder.model.prefixes import PrefixStore, PromptChain
from memory3_decoder.model.runner import ModelRunner
from memory3_decoder.parameters import GenerationRequest, MemoryOptions, SessionOptions

from memory3.memory.tensors import MemoryTensors
from tests.unit.decoder.calls import Answer, collect, request, until_idle
from tests.unit.decoder.conftest import CHUNK_LENGTH, MakeDecoder
from tests.unit.decoder.scripted_retriever import BANK, ScriptedRetriever

SIZE = CHUNK_LENGTH
Reads = list[tuple[int, int]]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """(start, tokens) of every piece that a model reads."""
    kept: Reads = []
    prefill = ModelRunner.prefill

    async def logged(runner: ModelRunner, job: Any) -> Any:
        kept.append((job.piece.start, len(job.piece.tokens)))
        return await prefill(runner, job)

    monkeypatch.setattr(ModelRunner, "prefill", logged)
    return kept


def _tokens(count: int, seed: int = 0) -> tuple[int, ...]:
    rng = Random(seed)
    return tuple(rng.randrange(10, 200) for _ in range(count))


def _request(decoder: Decoder, tokens: Sequence[int], **wishes: Any) -> GenerationRequest:
    made = request(decoder, "", **{"max_tokens": 6, **wishes})
    return type(made)(**{**vars(made), "prompt_tokens": tuple(tokens)})


async def _ask(decoder: Decoder, tokens: Sequence[int], **wishes: Any) -> list[Answer]:
    return await collect(decoder.engine.generate(_request(decoder, tokens, **wishes)))


def _essence(answers: Sequence[Answer]) -> list[tuple[Any, ...]]:
    return [(answer.tokens, answer.text, answer.chunk_ids) for answer in answers]


async def test_a_hit_reads_what_is_new_only(make_decoder: MakeDecoder, reads: Reads) -> None:
    """Whole chunks that were read are copied, and a prompt read before still leaves a token."""
    decoder = await make_decoder()
    shared = _tokens(4 * SIZE)
    await _ask(decoder, [*shared, *_tokens(5, 1)])
    await _ask(decoder, [*shared, *_tokens(7, 2)])
    await _ask(decoder, shared)
    await _ask(decoder, shared[: 2 * SIZE + 3])
    await _ask(decoder, [*shared[:SIZE], *_tokens(SIZE, 3)])
    assert reads == [(0, 69), (64, 7), (48, 16), (32, 3), (16, 16)]


@pytest.mark.parametrize("bank", ["", BANK])
async def test_choices_of_one_request_read_the_prompt_once(
    make_decoder: MakeDecoder, reads: Reads, bank: str
) -> None:
    """However long the prompt is, each chunk of it is read by one choice, and the rest by all."""
    prompt = _tokens(6 * SIZE + 3)
    wishes = {"n": 3, "bank": bank, "temperature": 1.0, "seed": 4}
    without = await make_decoder(prefix_cache_bytes=0, prefill_tokens=2 * SIZE)
    expected = await _ask(without, prompt, **wishes)
    assert sum(size for _, size in reads) == 3 * len(prompt)
    reads.clear()
    decoder = await make_decoder(prefill_tokens=2 * SIZE)
    answers = await _ask(decoder, prompt, **wishes)
    assert sum(size for _, size in reads) == 6 * SIZE + 3 * 3
    assert _essence(answers) == _essence(expected)


Pair = tuple[Decoder, Decoder]


@pytest.fixture
async def pair(make_decoder: MakeDecoder) -> Pair:
    """A decoder without the store, and one whose store is full after a few prompts."""
    changes = {"prefill_tokens": 3 * SIZE}
    without = await make_decoder(prefix_cache_bytes=0, **changes)
    return without, await make_decoder(prefix_cache_bytes=30 * _chunk_bytes(without), **changes)


def _chunk_bytes(decoder: Decoder) -> int:
    config = decoder.checkpoint.config
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * SIZE * 4


@st.composite
def _plans(draw: st.DrawFn) -> list[tuple[tuple[int, ...], dict[str, Any]]]:
    """Prompts that share their beginnings, and what is asked for each."""
    plans = []
    for _ in range(draw(st.integers(2, 5))):
        shared = _tokens(5 * SIZE, draw(st.integers(0, 2)))[: draw(st.integers(0, 5 * SIZE))]
        rest = _tokens(draw(st.integers(0, 2 * SIZE)), draw(st.integers(3, 99)))
        memory = MemoryOptions(
            report=draw(st.booleans()),
            num_references=draw(st.sampled_from([None, 1])),
            session=draw(st.sampled_from([None, None, SessionOptions()])),
        )
        wishes = {
            "bank": draw(st.sampled_from(["", BANK])),
            "memory": memory,
            "seed": draw(st.integers(0, 99)),
            "temperature": draw(st.sampled_from([0.0, 1.0])),
            "n": draw(st.integers(1, 2)),
            "max_tokens": draw(st.integers(1, 2 * SIZE)),
        }
        plans.append(((*shared, *rest), wishes))
    return plans


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(plans=_plans())
async def test_answers_are_those_without_the_store(pair: Pair, plans: Any) -> None:
    """Token for token, alone and batched, whatever prompts share and which memories they read."""
    without, decoder = pair
    expected = [_essence(await _ask(without, tokens, **wishes)) for tokens, wishes in plans]
    alone = [_essence(await _ask(decoder, tokens, **wishes)) for tokens, wishes in plans]
    asked = (_ask(decoder, tokens, **wishes) for tokens, wishes in plans)
    batched = [_essence(answers) for answers in await asyncio.gather(*asked)]
    assert alone == expected
    assert batched == expected


async def test_other_memories_or_another_bank_are_no_hit(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever, reads: Reads
) -> None:
    """The text alone says nothing: the memories of a chunk and the bank count too."""
    decoder = await make_decoder()
    prompt = _tokens(3 * SIZE + 2)
    named = [MemoryOptions(reference_ids=(each,)) for each in list(retriever.texts)[:2]]
    await _ask(decoder, prompt)
    for memory in (*named, MemoryOptions(num_references=0), MemoryOptions(num_references=1)):
        await _ask(decoder, prompt, bank=BANK, memory=memory)
    assert [start for start, _ in reads] == [0] * 5
    reads.clear()
    await _ask(decoder, prompt, bank=BANK, memory=named[1])
    assert reads == [(3 * SIZE, 2)]


async def test_what_is_reported_or_a_session_is_read_in_full(
    make_decoder: MakeDecoder, reads: Reads
) -> None:
    """A report measures every chunk although the store holds it, and a session leaves nothing."""
    prompt, report = _tokens(3 * SIZE + 2), MemoryOptions(report=True)
    without = await make_decoder(prefix_cache_bytes=0)
    (expected,) = await _ask(without, prompt, bank=BANK, memory=report)
    decoder = await make_decoder()
    await _ask(decoder, prompt, bank=BANK, memory=MemoryOptions(session=SessionOptions()))
    reads.clear()
    await _ask(decoder, prompt, bank=BANK)
    (answer,) = await _ask(decoder, prompt, bank=BANK, memory=report)
    assert [start for start, _ in reads] == [0, 0]
    assert len(answer.end.chunks) == len(expected.end.chunks)
    for chunk, wanted in zip(answer.end.chunks, expected.end.chunks, strict=True):
        masses = [reference.attention_mass for reference in chunk.references]
        assert masses == pytest.approx([r.attention_mass for r in wanted.references], abs=1e-5)


async def test_bytes_are_bounded_and_counted(make_decoder: MakeDecoder, reads: Reads) -> None:
    """The store never holds more than it may, and the metrics tell what was copied and read."""
    decoder = await make_decoder(prefix_cache_bytes=0)
    budget = 5 * _chunk_bytes(decoder)
    decoder = await make_decoder(prefix_cache_bytes=budget)
    for seed in range(6):
        await _ask(decoder, _tokens(3 * SIZE + 1, seed))
        assert 0 < decoder._runner.prefix_bytes <= budget
    await _ask(decoder, _tokens(3 * SIZE + 1, 5))
    assert reads[-1] == (3 * SIZE, 1)
    await _ask(decoder, _tokens(9 * SIZE, 9))  # larger than all there is
    await _ask(decoder, _tokens(9 * SIZE, 9))
    assert 0 < reads[-1][0] < 5 * SIZE
    await until_idle(decoder)
    copied, read = (
        decoder._metrics.prefix_tokens.labels(outcome)._value.get() for outcome in ("hit", "read")
    )
    assert copied == 3 * SIZE + reads[-1][0]
    assert read == sum(size for _, size in reads)
    assert decoder._metrics.prompt_tokens._value.get() == copied + read


async def test_leaving_in_the_middle_of_a_prompt_leaves_whole_chunks_only(
    make_decoder: MakeDecoder, monkeypatch: pytest.MonkeyPatch, reads: Reads
) -> None:
    """What was read to its end may serve others; what was not, or what failed, is not there."""
    prompt = _tokens(6 * SIZE + 3)
    without = await make_decoder(prefix_cache_bytes=0)
    expected = await _ask(without, prompt)
    decoder = await make_decoder(num_slots=1, prefill_tokens=2 * SIZE)
    stream = decoder.engine.generate(_request(decoder, prompt))
    read: Callable[..., Any] = decoder._runner._lane.worker.model.prefill

    def broken(*arguments: Any, **named: Any) -> Any:
        output = read(*arguments, **named)
        if len(reads) > 2:
            raise RuntimeError("broken off after the columns were written")
        return output

    reads.clear()
    with monkeypatch.context() as patched:
        patched.setattr(decoder._runner._lane.worker.model, "prefill", broken)
        with pytest.raises(Exception, match="the model failed"):
            await collect(stream)
    assert [start for start, _ in reads] == [0, 2 * SIZE, 4 * SIZE][: len(reads)]
    await until_idle(decoder)
    reads.clear()
    assert _essence(await _ask(decoder, prompt)) == _essence(expected)
    assert reads[0] == (4 * SIZE, 2 * SIZE)


async def test_a_caller_who_leaves_does_no_harm(make_decoder: MakeDecoder, reads: Reads) -> None:
    """Callers leave at any piece, and later answers are those of a decoder that never saw them."""
    prompt = _tokens(6 * SIZE + 3)
    expected = await _ask(await make_decoder(prefix_cache_bytes=0), prompt)
    decoder = await make_decoder(num_slots=2, prefill_tokens=SIZE)
    for pieces in (1, 2, 4):
        reads.clear()
        stream = decoder.engine.generate(_request(decoder, [*prompt[: 5 * SIZE], *prompt]))
        async with asyncio.timeout(60):
            while len(reads) < pieces:
                await asyncio.sleep(0)
        stream.cancel()
        await until_idle(decoder)
    assert _essence(await _ask(decoder, prompt)) == _essence(expected)


def _memory(fill: float) -> MemoryTensors:
    one = torch.full((1, 1, 2, 2), fill)
    return MemoryTensors(one, one, torch.zeros(1, 1, 2, dtype=torch.int16), 2)


@given(
    prompts=st.lists(
        st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 1), max_size=7)), max_size=30
    ),
    room=st.integers(0, 6),
)
def test_the_store_finds_what_was_kept_and_nothing_else(prompts: Any, room: int) -> None:
    """Chunks are found under their own chain only, within bounds, none without its forerunner."""
    store = PrefixStore(room * 4)
    for bank, memories in prompts:
        # All texts are the same: memories and banks alone tell them apart.
        read = [*([_memory(each)] for each in memories), []]
        chain = PromptChain.of("digest", bank, [1] * (2 * len(memories) + 1), read, 2)
        name = [hash((bank, *memories[: n + 1])) % 2**31 for n in range(len(memories))]
        found = store.find(chain, 0)
        assert [int(columns) for columns in found] == name[: len(found)]
        store.keep(
            chain,
            len(found),
            len(memories),
            lambda number, name=name: torch.tensor(name[number], dtype=torch.int32),
        )
        assert store.num_bytes == 4 * len(store) <= 4 * room
        assert len(store.find(chain, 0)) == min(room, len(memories))
