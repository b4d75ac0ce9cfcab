"""Generating through slots gives what full forwards give, with the memories of paper §4."""

import asyncio
from pathlib import Path

import pytest
from memory3_decoder.engine.loop import DecodeLoop
from memory3_decoder.events import FinishReason
from memory3_decoder.parameters import MemoryOptions, ScoringRequest

from memory3.checkpoint import Checkpoint
from memory3.testing.checkpoints import tiny_checkpoint
from tests.unit.decoder.calls import ask, collect, prompt_of, request
from tests.unit.decoder.conftest import CHUNK_LENGTH, MakeDecoder
from tests.unit.decoder.oracle import Oracle
from tests.unit.decoder.scripted_retriever import BANK, ScriptedRetriever, reference_id


async def test_cached_decoding_equals_full_forwards_without_memories(
    make_decoder: MakeDecoder, checkpoint: Checkpoint
) -> None:
    """Greedy tokens through the engine are those of a loop of full forwards."""
    decoder = await make_decoder()
    prompt = prompt_of(decoder, 2 * CHUNK_LENGTH)
    answer = await ask(decoder, prompt, max_tokens=50)
    tokens = decoder.requests.tokens(prompt, "prompt")
    expected = Oracle(checkpoint, None).greedy(tokens, 50, frequency_penalty=0.5)
    assert answer.tokens == expected.tokens
    assert answer.attached == []


@pytest.mark.parametrize("pause_s", [0.0, 0.02])
async def test_cached_decoding_equals_full_forwards_with_the_memory_cycle(
    make_decoder: MakeDecoder,
    checkpoint: Checkpoint,
    retriever: ScriptedRetriever,
    monkeypatch: pytest.MonkeyPatch,
    pause_s: float,
) -> None:
    """Every chunk reads the memories of its own query, the first generated one those before it.

    With a pause before each step the next chunk's memories come before the last token of the chunk
    is read; they must not be read by it.
    """
    real = DecodeLoop._read

    async def paused(loop: DecodeLoop) -> bool:
        await asyncio.sleep(pause_s)
        return await real(loop)

    monkeypatch.setattr(DecodeLoop, "_read", paused)
    decoder = await make_decoder()
    num_tokens = 3 * CHUNK_LENGTH + 5
    prompt = prompt_of(decoder, 2 * CHUNK_LENGTH)
    answer = await ask(decoder, prompt, bank=BANK, max_tokens=num_tokens)
    oracle = Oracle(checkpoint, retriever)
    tokens = decoder.requests.tokens(prompt, "prompt")
    expected = oracle.greedy(tokens, num_tokens, frequency_penalty=0.5)
    assert answer.tokens == expected.tokens
    assert answer.chunk_ids == expected.chunk_ids
    assert [c.start_token for c in answer.attached] == [CHUNK_LENGTH * i for i in range(6)]
    assert [c.chunk for c in answer.attached] == list(range(6))
    without = Oracle(checkpoint, None).greedy(tokens, num_tokens, frequency_penalty=0.5)
    assert answer.tokens != without.tokens


async def test_all_chunks_of_a_prompt_are_found_in_one_call(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """A prompt costs one call; later calls name the memories that are held."""
    decoder = await make_decoder(retrieval_timeout_s=30.0)
    answer = await ask(decoder, prompt_of(decoder, 70), bank=BANK, max_tokens=2 * CHUNK_LENGTH + 2)
    assert [len(call.queries) for call in retriever.requests] == [5, 1, 1]
    assert answer.end.usage.retrievals == 3
    assert answer.end.usage.memories_attached == 8 * 3
    first = {key for chunk in answer.chunk_ids[:5] for key in chunk}
    assert set(retriever.requests[1].held_ids) == first
    assert retriever.requests[0].checkpoint_digest == decoder.checkpoint.digest


@pytest.mark.parametrize("max_tokens", [CHUNK_LENGTH, CHUNK_LENGTH + 1])
async def test_memories_that_no_token_would_read_are_not_looked_for(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever, max_tokens: int
) -> None:
    """A full chunk is no query where generation ends before a token of the next one is read."""
    decoder = await make_decoder()
    answer = await ask(decoder, "Who is it ?", bank=BANK, max_tokens=max_tokens)
    assert (len(answer.tokens), len(retriever.requests)) == (max_tokens, 1)


async def test_named_references_are_attached_to_every_chunk(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """Reference ids replace the search, in one call, for prompt and output."""
    decoder = await make_decoder()
    ids = tuple(sorted(retriever.texts))[:2]
    memory = MemoryOptions(reference_ids=ids, with_references=True)
    answer = await ask(
        decoder, "Who is it ?", bank=BANK, memory=memory, max_tokens=CHUNK_LENGTH + 4
    )
    assert answer.chunk_ids == [list(ids)] * 3
    assert len(retriever.requests) == 1
    texts = [r.reference.text for r in answer.attached[0].references if r.reference]
    assert texts == [retriever.texts[key] for key in ids]


async def test_an_empty_prompt_reads_named_references(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """Without prompt tokens the output is the first chunk, and memories change it."""
    decoder = await make_decoder()
    memory = MemoryOptions(reference_ids=tuple(retriever.texts)[:3])
    answer = await ask(decoder, "", bank=BANK, memory=memory, max_tokens=CHUNK_LENGTH)
    assert [(c.chunk, c.start_token, len(c.references)) for c in answer.attached] == [(0, 0, 3)]
    assert answer.tokens != (await ask(decoder, "", max_tokens=CHUNK_LENGTH)).tokens


async def test_a_report_gives_the_attention_mass_of_every_reference(
    make_decoder: MakeDecoder,
) -> None:
    """The finish repeats the chunks with shares of attention above 0 and below 1 in all."""
    decoder = await make_decoder()
    answer = await ask(
        decoder,
        prompt_of(decoder, CHUNK_LENGTH + 3),
        bank=BANK,
        memory=MemoryOptions(report=True),
        max_tokens=CHUNK_LENGTH + 4,
    )
    assert [c.chunk for c in answer.end.chunks] == [0, 1, 2, 3]
    for chunk in answer.end.chunks:
        masses = [reference.attention_mass for reference in chunk.references]
        assert len(masses) == 3
        assert all(mass > 0 for mass in masses)
        assert sum(masses) < 1
    assert all(r.attention_mass == 0 for chunk in answer.attached for r in chunk.references)


async def test_num_references_limits_each_chunk(make_decoder: MakeDecoder) -> None:
    """One memory is attached where one is asked for, none where none is."""
    decoder = await make_decoder()
    one = await ask(decoder, "Who ?", bank=BANK, memory=MemoryOptions(num_references=1))
    none = await ask(decoder, "Who ?", bank=BANK, memory=MemoryOptions(num_references=0))
    plain = await ask(decoder, "Who ?")
    assert [len(ids) for ids in one.chunk_ids] == [1, 1, 1]
    assert (none.attached, none.tokens) == ([], plain.tokens)


async def test_choices_share_the_prompt_retrieval_and_differ(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """Three choices cost one call for the prompt; each draws tokens of its own."""
    decoder = await make_decoder()
    wanted = request(decoder, "Who is it ?", bank=BANK, n=3, temperature=1.0, seed=3)
    answers = await collect(decoder.engine.generate(wanted))
    assert len(answers) == 3
    assert len({tuple(answer.tokens) for answer in answers}) == 3
    assert len([call for call in retriever.requests if len(call.queries) == 1]) >= 1
    prompt_calls = [c for c in retriever.requests if c.queries[0].text == "Who is it ?"]
    assert len(prompt_calls) == 1


async def test_usage_and_finish_by_length(make_decoder: MakeDecoder) -> None:
    """The finish counts what was read and written and says that the length was the end."""
    decoder = await make_decoder()
    answer = await ask(decoder, "Who is it ?", max_tokens=7)
    usage = answer.end.usage
    num_prompt = len(decoder.requests.tokens("Who is it ?", "prompt"))
    assert answer.end.reason is FinishReason.LENGTH
    assert (usage.prompt_tokens, usage.completion_tokens) == (num_prompt, 7)
    assert (usage.memories_attached, usage.retrievals) == (0, 0)
    assert 0 < usage.time_to_first_token_s <= usage.total_time_s
    assert decoder.requests.text(answer.tokens) == answer.text


async def test_a_stop_token_ends_it_and_is_not_said(make_decoder: MakeDecoder) -> None:
    """The first of the token ids that may come after min_tokens is the end; it has no text."""
    decoder = await make_decoder()
    free = await ask(decoder, "Who is it ?", max_tokens=12)
    stop = free.tokens[5]
    first = free.tokens.index(stop)
    ended = await ask(decoder, "Who is it ?", max_tokens=12, stop_token_ids=(stop,))
    assert ended.end.reason is FinishReason.STOP
    assert ended.tokens == free.tokens[: first + 1]
    assert ended.text == decoder.requests.text(free.tokens[:first])
    later = await ask(
        decoder, "Who is it ?", max_tokens=12, min_tokens=first + 1, stop_token_ids=(stop,)
    )
    assert later.tokens[:first] == free.tokens[:first]
    assert later.tokens[first] != stop


async def test_scores_are_the_full_forwards_with_the_prompts_memories(
    make_decoder: MakeDecoder, checkpoint: Checkpoint, retriever: ScriptedRetriever
) -> None:
    """A continuation is never a query: its chunks read what the prompt's last chunk reads."""
    decoder = await make_decoder()
    tokens = decoder.requests.tokens
    prompt = tokens(prompt_of(decoder, CHUNK_LENGTH + 5), "prompt")
    continuations = (tokens(prompt_of(decoder, 40), "c"), tokens(" no", "c"))
    scores = await decoder.engine.score(
        ScoringRequest(prompt_tokens=prompt, continuations=continuations, bank=BANK)
    )
    first, second = [query.text for query in retriever.requests[0].queries]
    oracle = Oracle(checkpoint, retriever)
    ids = [[key for key, _ in retriever.search(text, 3)] for text in (first, second)]
    ids += [ids[-1]] * 4
    for score, continuation in zip(scores.continuations, continuations, strict=True):
        expected = oracle.logprobs(prompt, continuation, ids)
        assert score.token_logprobs == pytest.approx(expected, abs=1e-4)
        assert score.logprob == pytest.approx(sum(expected), abs=1e-3)
    assert len(retriever.requests) == 1


async def test_a_greedy_continuation_scores_as_greedy(make_decoder: MakeDecoder) -> None:
    """What the decoder itself would say is greedy; anything else is not."""
    decoder = await make_decoder()
    answer = await ask(decoder, "Who is it ?", max_tokens=5, frequency_penalty=0.0)
    prompt = decoder.requests.tokens("Who is it ?", "prompt")
    own = tuple(answer.tokens)
    other = (*own[:4], (own[4] + 1) % 500)
    scores = await decoder.engine.score(
        ScoringRequest(prompt_tokens=prompt, continuations=(own, other))
    )
    assert [score.greedy for score in scores.continuations] == [True, False]


async def test_a_reference_shorter_than_the_tokens_kept_is_attached(
    make_decoder: MakeDecoder, checkpoint: Checkpoint
) -> None:
    """A memory of two tokens is read like any other."""
    with ScriptedRetriever(checkpoint, ["Who"]) as short:
        decoder = await make_decoder(retriever=short.address)
        answer = await ask(decoder, "Who is it ?", bank=BANK)
    assert answer.chunk_ids == [[reference_id("Who")]] * 3


async def test_the_whole_window_can_be_used(make_decoder: MakeDecoder) -> None:
    """Prompt and output together may be exactly as long as the context."""
    decoder = await make_decoder(context_length=40)
    answer = await ask(decoder, prompt_of(decoder, 30), bank=BANK, max_tokens=10)
    assert len(answer.tokens) == 10
    longest = await ask(decoder, prompt_of(decoder, 39), max_tokens=1)
    assert len(longest.tokens) == 1


async def test_padding_of_the_vocabulary_is_never_said(
    make_decoder: MakeDecoder, tmp_path: Path
) -> None:
    """A matrix with more rows than the tokenizer has tokens gives tokens of the tokenizer only."""
    padded = tiny_checkpoint(tmp_path / "padded", vocab_size=4096)
    decoder = await make_decoder(checkpoint=padded.path)
    answer = await ask(decoder, "Who ?", max_tokens=60, temperature=2.0, seed=1, logprobs=3)
    named = {token for chosen in answer.logprobs for token, _ in chosen.top}
    assert max(named | set(answer.tokens)) < padded.tokenizer.get_vocab_size()
