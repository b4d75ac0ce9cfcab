"""Beyond the window: text that leaves it is read as memories, and all else stays as it was."""

import asyncio

import pytest
from memory3_decoder.parameters import MemoryOptions, SessionOptions
from memory3_decoder.session_memory import Window
from memory3_decoder.session_memory.borders import Borders

from memory3.errors import InvalidArgumentError
from memory3.testing.checkpoints import tiny_tokenizer
from memory3.v1 import decoder_pb2
from tests.unit.decoder.calls import ask, collect, prompt_of, request, until_idle
from tests.unit.decoder.conftest import MakeDecoder
from tests.unit.decoder.scripted_retriever import BANK

WINDOW = 160
SESSION = MemoryOptions(session=SessionOptions())
TRUNCATED = MemoryOptions(session=SessionOptions(), num_references=0)


@pytest.mark.parametrize("num_tokens", [160, 161, 223, 224, 1600])
def test_what_stays_leaves_room_and_what_leaves_is_whole(num_tokens: int) -> None:
    """Whole references leave, something stays, and the rest is no longer full."""
    window = Window(WINDOW, 64)
    leaving = window.num_leaving(num_tokens)
    assert leaving % 64 == 0
    assert 0 < num_tokens - leaving <= WINDOW - 64
    assert window.num_leaving(WINDOW - 1) == 0


def test_references_are_cut_after_paragraphs_else_sentences_else_anywhere() -> None:
    """Nothing is lost, nothing is too long, and what belongs together stays together."""
    tokenizer = tiny_tokenizer()
    text = "She was born in Oslo. He sang.\n\nThe mill burnt down. It rained for days on\n" * 3
    tokens = tokenizer.encode(text + "abcdefgh" * 40, add_special_tokens=False).ids
    parts = list(Borders(tokenizer).cut(tokens, 48))
    assert [token for part in parts for token in part] == tokens
    assert max(map(len, parts)) <= 48
    texts = [tokenizer.decode(part) for part in parts]
    assert texts[0].endswith("\n")
    assert sum(text.rstrip(" ").endswith("\n") for text in texts) >= 2
    assert len(parts[-2]) == 48  # there is no border in it
    (first, *_) = Borders(tokenizer).cut(tokenizer.encode("So it is. " * 30).ids, 48)
    assert tokenizer.decode(first).rstrip().endswith(".")


async def test_a_moved_window_equals_a_fresh_request_with_its_rest(
    make_decoder: MakeDecoder,
) -> None:
    """Without memories, what follows a move is what a fresh request gives for the rest."""
    decoder = await make_decoder(context_length=WINDOW)
    prompt = prompt_of(decoder, 150)
    moved = await ask(decoder, prompt, max_tokens=40, memory=TRUNCATED, frequency_penalty=0.0)
    tokens = [*decoder.requests.tokens(prompt, "prompt"), *moved.tokens]
    fresh = request(decoder, "", max_tokens=30, frequency_penalty=0.0)
    fresh = type(fresh)(**{**vars(fresh), "prompt_tokens": tuple(tokens[64:WINDOW])})
    (expected,) = await collect(decoder.engine.generate(fresh))
    assert moved.tokens[10:] == expected.tokens
    assert moved.end.usage.session_memories == 0


async def test_chunks_read_what_left_and_say_which_tokens(make_decoder: MakeDecoder) -> None:
    """A prompt of many windows is written as memories, which chunks read and tell of."""
    decoder = await make_decoder(context_length=WINDOW, retriever="")
    answer = await ask(decoder, prompt_of(decoder, 600), max_tokens=200, memory=SESSION)
    spans = [r.span for chunk in answer.attached for r in chunk.references]
    assert len(answer.tokens) == 200
    assert {span.start for span in spans if span} >= {0}
    assert all(span is not None and 0 < span.num_tokens <= 64 for span in spans)
    for chunk in answer.attached:  # nothing is read that is still in the window
        read = [r.span for r in chunk.references if r.span]
        assert all(span.start + span.num_tokens <= chunk.start_token for span in read)
    assert answer.end.usage.session_memories >= 10
    assert not answer.end.degraded_reason


async def test_a_long_prompt_is_cut_where_nothing_is_read(make_decoder: MakeDecoder) -> None:
    """Without references, what does not fit is forgotten: the rest alone gives the same tokens."""
    decoder = await make_decoder(context_length=WINDOW)
    prompt = prompt_of(decoder, 600)
    tokens = decoder.requests.tokens(prompt, "prompt")
    async with asyncio.timeout(60):
        cut = await ask(decoder, prompt, max_tokens=20, memory=TRUNCATED)
    fresh = request(decoder, "", max_tokens=20)
    rest = tokens[Window(WINDOW, 64).num_leaving(600) :]
    fresh = type(fresh)(**{**vars(fresh), "prompt_tokens": rest})
    (expected,) = await collect(decoder.engine.generate(fresh))
    assert cut.tokens == expected.tokens


async def test_both_banks_are_read_and_a_batch_equals_one_alone(make_decoder: MakeDecoder) -> None:
    """Sampled sessions with a bank give the same tokens batched and alone, from both banks."""
    decoder = await make_decoder(context_length=WINDOW)
    prompts = [prompt_of(decoder, 300, start=start) for start in range(3)]
    wishes = {"bank": BANK, "max_tokens": 120, "memory": SESSION, "temperature": 1.0, "seed": 5}
    alone = [await ask(decoder, prompt, **wishes) for prompt in prompts]
    batched = await asyncio.gather(*(ask(decoder, prompt, **wishes) for prompt in prompts))
    assert [answer.tokens for answer in batched] == [answer.tokens for answer in alone]
    read = [r for chunk in alone[0].attached for r in chunk.references]
    assert any(r.span for r in read)
    assert any(r.id for r in read)
    for chunk in alone[0].attached:
        scores = [r.score for r in chunk.references]
        assert len(scores) <= 3
        assert scores == sorted(scores, reverse=True)


async def test_the_bank_is_bounded_and_leaving_frees_the_slot(make_decoder: MakeDecoder) -> None:
    """The oldest memories are forgotten, and a caller who leaves midway leaves nothing behind."""
    decoder = await make_decoder(context_length=WINDOW)
    memory = MemoryOptions(session=SessionOptions(max_memories=2))
    answer = await ask(decoder, prompt_of(decoder, 600), max_tokens=4, memory=memory)
    spans = {r.span for chunk in answer.attached for r in chunk.references}
    assert len(spans) == 2
    assert answer.end.usage.session_memories == 2
    stream = decoder.engine.generate(
        request(decoder, prompt_of(decoder, 600), max_tokens=5000, memory=SESSION, n=2)
    )
    with stream:
        async for _ in stream:
            break
    await until_idle(decoder)


async def test_a_long_prompt_is_refused_without_the_option(make_decoder: MakeDecoder) -> None:
    """The refusal is the old one, and its remedy names the option; a session has a bound too."""
    decoder = await make_decoder(context_length=WINDOW, session_tokens=1000)
    message = decoder_pb2.GenerateRequest(prompt=prompt_of(decoder, 400))
    with pytest.raises(InvalidArgumentError, match="window of 160") as refused:
        decoder.requests.generation(message, None)
    assert "memory.session" in (refused.value.remedy or "")
    message.memory.session.SetInParent()
    assert decoder.requests.generation(message, None).max_tokens == 128
    message.sampling.max_tokens = 900
    with pytest.raises(InvalidArgumentError, match="session of 1000"):
        decoder.requests.generation(message, None)
    message.memory.session.max_memories = 0
    with pytest.raises(InvalidArgumentError, match="0 memories"):
        decoder.requests.generation(message, None)
