"""The life of knowledge through the SDK: added, found, read, asked about, scored, erased."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from memory3.client import AsyncClient, Client, Document
from memory3.errors import NotFoundError
from memory3.launcher import LocalServices
from memory3.sdk.answers import ChunkMemories, Finish, TextDelta
from tests.e2e.chain import CHUNK_LENGTH, Said, options, people, prompts_about, said, say, story
from tests.e2e.conftest import new_bank_name

pytestmark = pytest.mark.e2e


class Blocking:
    """An asyncio client with the manners of the other one: it waits, and streams are lists."""

    def __init__(self, client: AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if isinstance(result, AsyncIterator):
                return [item async for item in result]
            return await result if inspect.isawaitable(result) else result

        return lambda *args, **kwargs: self._loop.run_until_complete(call(*args, **kwargs))


@pytest.fixture
def blocking(services: LocalServices) -> Iterator[Blocking]:
    """The asyncio client of the shared services."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        connected = services.aio_client()
        yield Blocking(connected, loop)
        loop.run_until_complete(connected.close())


def whole_life(client: Any, bank: str) -> list[Any]:
    """All that the services say about some knowledge, from nothing to nothing again."""
    seen: list[Any] = []
    created = client.create_bank(bank, description="lives")
    seen.append((created.checkpoint_digest, created.index, created.codec, created.write_policy))
    documents = [*people(6, seed=3), story(1)]
    report = client.add(bank, iter(documents))
    seen.append([(d.source, d.reference_ids, d.num_added, d.error) for d in report.documents])
    again = client.add(bank, documents)
    seen.append([(d.num_added, d.num_existing, d.num_removed) for d in again.documents])
    seen.append(sorted(r.id for r in client.list_references(bank, page_size=3)))
    prompt = prompts_about(3)[1]
    hits = client.search(bank, prompt, k=4)
    seen.append([(hit.reference.id, hit.reference.source, hit.score) for hit in hits])
    events = list(client.stream(prompt, bank, **options(report=True)))
    seen.append([event for event in events if not isinstance(event, Finish)])
    answer = client.ask("Where?", bank, **options("seeded"))
    seen.append(said(answer))
    scores = client.score(prompt, [" one", " two three"], bank, retrieval_timeout=60.0)
    seen.append([(s.logprob, s.num_tokens, s.greedy, s.token_logprobs) for s in scores.scores])
    stored = client.get_reference(bank, hits[0].reference.id)
    seen.append((stored.reference.text, stored.reference.span, stored.memory_bytes > 0))
    seen.append(client.delete_references(bank, [hits[0].reference.id, "0" * 32]))
    seen.append(client.delete_references(bank, source="stories/1"))
    seen.append(client.get_bank(bank).statistics.num_references)
    report = client.verify_bank(bank)
    seen.append((report.num_checked, report.problems))
    client.delete_bank(bank)
    with pytest.raises(NotFoundError) as raised:
        client.search(bank, prompt)
    seen.append((raised.value.reason, raised.value.field, raised.value.remedy))
    return seen


def test_both_clients_tell_the_same_story(client: Client, blocking: Blocking) -> None:
    """Every step of a bank's life gives the same through the waiting and the asyncio client."""
    one, other = whole_life(client, new_bank_name()), whole_life(blocking, new_bank_name())
    assert other == one


def test_references_say_where_they_come_from(client: Client, bank: str) -> None:
    """Source, title, heading, metadata and span; the span is the reference's text."""
    text = (
        "# Birds\n\nHerons wait.\n\n## Owls\n\nOwls hear mice under snow. Their feathers are soft."
        "\n\n## Ravens\n\nRavens remember faces — for years."
    )
    document = Document(text, source="birds.md", title="On birds", metadata={"year": "1999"})
    client.create_bank(bank)
    (added,) = client.add(bank, document).documents
    references = {r.id: r for r in client.list_references(bank)}
    in_order = [references[id] for id in added.reference_ids]
    assert [r.heading for r in in_order] == ["Birds", "Birds > Owls", "Birds > Ravens"]
    for reference in in_order:
        assert reference.span is not None
        assert text[reference.span.start : reference.span.end] == reference.text
        assert (reference.source, reference.title) == ("birds.md", "On birds")
        assert reference.metadata == {"year": "1999"}
        assert reference.num_tokens == len(client.tokenize(reference.text))
        assert reference.create_time is not None
    found = client.search(bank, "mice under the snow", k=1)[0].reference
    assert found == in_order[1]
    answer = client.generate("Owls", bank, **options(with_references=True, report=True))
    attached = [item for chunk in answer.chunks for item in chunk.references]
    assert len(attached) > 0
    assert all(item.reference in in_order and item.attention_mass > 0 for item in attached)


def test_stream_says_what_it_reads_before_what_it_says(client: Client, bank: str) -> None:
    """Chunks come in order, each before the text that is made with it; the finish sums up."""
    client.create_bank(bank)
    client.add(bank, people(8, seed=5))
    prompt = prompts_about(5)[1]
    events = list(client.stream(prompt, bank, **options()))
    chunks = [event for event in events if isinstance(event, ChunkMemories)]
    deltas = [event for event in events if isinstance(event, TextDelta)]
    finish = events[-1]
    assert isinstance(finish, Finish)
    num_prompt = len(client.tokenize(prompt))
    num_prompt_chunks = -(-num_prompt // CHUNK_LENGTH)
    num_chunks = num_prompt_chunks + -(-options()["max_tokens"] // CHUNK_LENGTH)
    assert [chunk.chunk for chunk in chunks] == list(range(num_chunks))
    starts = [chunk.start_token for chunk in chunks]
    assert starts[:num_prompt_chunks] == [CHUNK_LENGTH * i for i in range(num_prompt_chunks)]
    assert starts[num_prompt_chunks:] == [num_prompt + CHUNK_LENGTH * i for i in range(3)]
    assert isinstance(events[0], ChunkMemories)
    num_said = 0
    for event in events[:-1]:
        if isinstance(event, ChunkMemories):
            assert event.start_token <= num_prompt + num_said
        else:
            num_said += len(event.token_ids)
    assert [c.references for c in finish.chunks] == [c.references for c in chunks]
    assert finish.usage.completion_tokens == num_said == options()["max_tokens"]
    assert finish.usage.memories_attached == sum(len(chunk.references) for chunk in chunks)
    assert (
        "".join(delta.text for delta in deltas) == client.generate(prompt, bank, **options()).text
    )


def test_erased_knowledge_has_no_effect(client: Client, bank: str) -> None:
    """With a reference the answer is another one; without it again, as if it had never been."""
    others, (target,) = people(6, seed=7), people(1, seed=8)
    prompt = prompts_about(8, 2)[0]
    client.create_bank(bank)
    client.add(bank, others)

    def answers() -> dict[str, tuple[Said, ...]]:
        return {mode: say(client, prompt, bank, mode) for mode in ("greedy", "seeded")}

    without = answers()
    (added,) = client.add(bank, target).documents
    with_target = answers()
    for mode, choices in with_target.items():
        assert added.reference_ids[0] in choices[0].chunk_ids[0]
        assert choices[0].token_ids != without[mode][0].token_ids
    client.delete_references(bank, source=target.source)
    assert answers() == without
    client.add(bank, target)
    assert answers() == with_target


def test_no_memories_no_bank_and_an_empty_bank_are_the_same(client: Client, bank: str) -> None:
    """Where nothing is attached, nothing about memories changes the answer."""
    client.create_bank(bank)
    prompt = prompts_about(9)[1]
    alone = say(client, prompt)
    assert not any(ids for ids in alone[0].chunk_ids)
    assert [c.token_ids for c in say(client, prompt, bank)] == [c.token_ids for c in alone]
    client.add(bank, people(3, seed=9))
    unread = say(client, prompt, bank, num_references=0)
    assert [c.token_ids for c in unread] == [c.token_ids for c in alone]
    assert say(client, prompt, bank)[0].token_ids != alone[0].token_ids


def test_scores_follow_the_memories(client: Client, bank: str) -> None:
    """What was generated greedily with memories scores as greedy with them, and not without."""
    client.create_bank(bank)
    client.add(bank, people(6, seed=10))
    prompt = prompts_about(10, 2)[0]
    greedy = client.generate(
        prompt, bank, max_tokens=6, ignore_eos=True, retrieval_timeout=60.0, logprobs=0
    )
    total = sum(item.logprob for item in greedy.logprobs)
    with_memories, without = (
        client.score(prompt, greedy.text, name, retrieval_timeout=60.0).scores[0]
        for name in (bank, "")
    )
    assert client.tokenize(greedy.text) == list(greedy.token_ids)
    assert with_memories.greedy
    assert with_memories.logprob == pytest.approx(total, abs=1e-3)
    assert with_memories.logprob != pytest.approx(without.logprob, abs=1e-4)


def test_changed_document_replaces_what_it_said(client: Client, bank: str) -> None:
    """After a document has changed, only its new text is found, read and listed."""
    client.create_bank(bank)
    client.add(bank, [Document("The mill is red.", source="mill"), *people(3, seed=12)])
    (changed,) = client.add(bank, Document("The mill is blue.", source="mill")).documents
    assert (changed.num_added, changed.num_removed) == (1, 1)
    listed = list(client.list_references(bank, source="mill"))
    assert [reference.text for reference in listed] == ["The mill is blue."]
    (fresh,) = client.search(bank, "The mill is red.", k=1)
    assert fresh.reference.text == "The mill is blue."
