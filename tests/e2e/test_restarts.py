"""Services that die: the others go on, say so, and are whole again when they are back."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from memory3.client import Client, Document
from memory3.errors import BackendUnavailableError, Memory3Error, UnavailableError
from memory3.launcher import LocalServices
from memory3.sdk.references import AddedDocument
from tests.e2e.chain import (
    MODES,
    options,
    people,
    prompts_about,
    say,
    say_all,
    start,
    story,
)
from tests.e2e.conftest import new_bank_name

pytestmark = pytest.mark.e2e

SEED = 61
PROMPT = prompts_about(SEED)[1]


@pytest.fixture
def client(fragile: LocalServices) -> Iterator[Client]:
    """A client of the services to be harmed."""
    with fragile.client() as connected:
        yield connected


@pytest.fixture
def filled(client: Client, bank: str) -> str:
    """A bank with some people."""
    client.create_bank(bank)
    client.add(bank, people(10, SEED))
    return bank


def test_without_a_retriever_answers_are_degraded_and_whole_after_it_is_back(
    client: Client, fragile: LocalServices, filled: str
) -> None:
    """Degraded is as without memories and says why; strict is refused; then as before."""
    before = say_all(client, [PROMPT], filled)
    fragile.processes["retriever"].kill()
    for mode in MODES:
        degraded = client.generate(PROMPT, filled, **options(mode))
        assert degraded.degraded
        assert degraded.choices[0].finish.degraded_reason
        without = client.generate(PROMPT, **options(mode))
        assert [c.token_ids for c in degraded.choices] == [c.token_ids for c in without.choices]
    with pytest.raises(UnavailableError) as raised:
        client.generate(PROMPT, filled, **options(strict=True))
    assert (raised.value.code, raised.value.field) == ("UNAVAILABLE", "memory.strict")
    assert raised.value.remedy
    with pytest.raises(BackendUnavailableError):
        client.search(filled, "anything")
    scores = client.score(PROMPT, " one", filled)
    assert scores.degraded
    start(fragile, "retriever", client)
    assert say_all(client, [PROMPT], filled) == before


def test_without_an_encoder_what_is_written_can_still_be_read(
    client: Client, fragile: LocalServices, filled: str
) -> None:
    """Named references need no encoder; searching and adding say which service is missing."""
    before = say_all(client, [PROMPT], filled)
    ids = [reference.id for reference in client.list_references(filled)][:2]
    named = say(client, PROMPT, filled, reference_ids=ids)
    fragile.processes["encoder"].kill()
    assert say(client, PROMPT, filled, reference_ids=ids) == named
    assert client.generate(PROMPT, filled, **options()).degraded
    with pytest.raises(UnavailableError):
        client.generate(PROMPT, filled, **options(strict=True))
    for call in (
        lambda: client.search(filled, "anything"),
        lambda: client.add(filled, people(1, SEED + 1)),
        lambda: client.create_bank(new_bank_name()),
    ):
        with pytest.raises(BackendUnavailableError) as raised:
            call()
        assert raised.value.field == "encoder"
        assert raised.value.remedy
    assert client.get_bank(filled).statistics is not None
    start(fragile, "encoder", client)
    assert say_all(client, [PROMPT], filled) == before


def test_a_new_decoder_says_the_same(client: Client, fragile: LocalServices, filled: str) -> None:
    """The decoder keeps nothing: killed while it speaks and started again, it knows as much."""
    before = say_all(client, [PROMPT], filled)
    with pytest.raises(UnavailableError):
        for number, _ in enumerate(
            client.stream(PROMPT, filled, **options(max_tokens=400, retrieval_timeout=60.0))
        ):
            if number == 3:
                fragile.processes["decoder"].kill()
    start(fragile, "decoder", client)
    assert say_all(client, [PROMPT], filled) == before


class Adding:
    """Adds documents from a thread until it is done or the retriever is gone."""

    def __init__(self, services: LocalServices, bank: str, documents: Sequence[Document]) -> None:
        self.durable: list[AddedDocument] = []
        self.enough = threading.Event()
        self.failure: Memory3Error | None = None
        self._services, self._bank, self._documents = services, bank, documents
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end."""
        self._thread.join()

    def _run(self) -> None:
        with self._services.client() as client:
            try:
                client.add(
                    self._bank, self._documents, max_documents=4, on_durable=self._on_durable
                )
            except Memory3Error as error:
                self.failure = error

    def _on_durable(self, documents: list[AddedDocument]) -> None:
        self.durable.extend(documents)
        if len(self.durable) >= 12:
            self.enough.set()


@pytest.mark.parametrize("policy", ["eager", "lazy"])
def test_a_retriever_killed_while_adding_loses_nothing_it_acknowledged(
    client: Client, fragile: LocalServices, bank: str, policy: str
) -> None:
    """Every acknowledged reference is there with its memory, and every document wholly or not."""
    client.create_bank(bank, write_policy=policy)
    documents = [story(number) for number in range(400)]
    adding = Adding(fragile, bank, documents)
    assert adding.enough.wait(60)
    fragile.processes["retriever"].kill()
    adding.join()
    assert isinstance(adding.failure, UnavailableError)
    start(fragile, "retriever", client)
    kept: dict[str, set[str]] = {}
    for reference in client.list_references(bank, page_size=1000):
        kept.setdefault(reference.source, set()).add(reference.id)
    for document in adding.durable:
        assert set(document.reference_ids) == kept[document.source]
    report = client.verify_bank(bank)
    assert report.problems == ()
    statistics = client.get_bank(bank).statistics
    assert statistics is not None
    num_references = sum(map(len, kept.values()))
    assert (report.num_checked, statistics.num_references) == (num_references, num_references)
    assert statistics.num_memories == (num_references if policy == "eager" else 0)
    again = client.add(bank, documents)
    for document in again.documents:
        was_there = kept.get(document.source, set())
        assert was_there in (set(), set(document.reference_ids))
        expected = (0, len(was_there)) if was_there else (len(document.reference_ids), 0)
        assert (document.num_added, document.num_existing) == expected
    assert client.verify_bank(bank).problems == ()
    hit = client.search(bank, documents[0].text[:200], k=1)[0]
    assert say(client, PROMPT, bank, reference_ids=[hit.reference.id])[0].chunk_ids[0] == (
        hit.reference.id,
    )
