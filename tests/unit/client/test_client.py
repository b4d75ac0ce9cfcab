"""The sync client against small services on real sockets."""

from __future__ import annotations

import inspect
from itertools import islice

import pytest

import memory3
from memory3.aio_client import AsyncClient
from memory3.client import Client, Reference
from memory3.errors import (
    AlreadyExistsError,
    BackendUnavailableError,
    CheckpointMismatchError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
)
from memory3.sdk.answers import ChunkMemories, Finish, TextDelta
from memory3.sdk.reference_calls import ReferenceIds
from tests.unit.client.memory_retriever import DIGEST, envelope_of
from tests.unit.client.servers import Services


def test_clients_are_named_by_the_package() -> None:
    """``memory3.Client`` is the class of this module."""
    assert memory3.Client is Client
    assert memory3.AsyncClient is AsyncClient


def test_three_lines_answer_from_a_bank(client: Client) -> None:
    """Making a bank, adding a text and asking works as the docstring says."""
    client.create_bank("docs")
    client.add("docs", "Ada lives in Turin.")
    assert client.ask("Where does Ada live?", bank="docs").text == "w0 w1 w2"


def test_an_answer_is_stripped_and_a_continuation_is_not(client: Client) -> None:
    """Asking gives the words; generating gives every character, and both every token."""
    asked, generated = client.ask("x"), client.generate("x")
    assert (asked.text, generated.text) == ("w0 w1 w2", " w0 w1 w2")
    assert asked.choices[0].token_ids == generated.choices[0].token_ids


@pytest.mark.parametrize("question", ["", " \n"])
def test_no_question_is_refused(client: Client, services: Services, question: str) -> None:
    """An empty question never reaches the decoder."""
    with pytest.raises(InvalidArgumentError) as caught:
        client.ask(question)
    assert caught.value.field == "question"
    assert services.decoder.requests == []


def test_a_bank_can_be_made_where_there_is_one(client: Client) -> None:
    """With exist_ok the bank that is there comes back with its own options; else it is an error."""
    client.create_bank("docs", codec="int8")
    again = client.create_bank("docs", codec="raw", exist_ok=True)
    assert (again.name, again.codec) == ("docs", "int8")
    assert client.create_bank("new", exist_ok=True).name == "new"
    with pytest.raises(AlreadyExistsError):
        client.create_bank("docs")


def test_bank_comes_back_typed(client: Client) -> None:
    """A bank has its short name, its options and its statistics."""
    made = client.create_bank("banks/docs", index="exact", codec="int8", write_policy="lazy")
    assert (made.name, made.index, made.codec, made.write_policy) == (
        "docs",
        "exact",
        "int8",
        "lazy",
    )
    client.add("docs", ["one", "two\n\nthree"])
    bank = client.get_bank("docs")
    assert bank.statistics is not None
    assert bank.statistics.num_references == 3
    assert bank.create_time is not None
    assert bank.create_time.tzinfo is not None


def test_server_errors_are_raised_as_they_were(client: Client) -> None:
    """The class, the field and the remedy of an error survive the wire."""
    client.create_bank("docs")
    with pytest.raises(AlreadyExistsError):
        client.create_bank("docs")
    with pytest.raises(NotFoundError) as caught:
        client.get_bank("nothing")
    assert (caught.value.field, caught.value.remedy) == ("bank", "create it first")


def test_pages_are_followed(client: Client, services: Services) -> None:
    """Lists go on over pages until the last, and no further than they are read."""
    for number in range(7):
        client.create_bank(f"bank-{number}")
    assert [bank.name for bank in client.list_banks(page_size=3)] == [
        f"bank-{number}" for number in range(7)
    ]
    assert [bank.name for bank in islice(client.list_banks(page_size=3), 2)] == ["bank-0", "bank-1"]


def test_references_are_added_read_listed_and_deleted(client: Client) -> None:
    """A reference keeps its origin, and a too long one fails alone."""
    client.create_bank("docs")
    good = Reference("Ada lives.", source="s", heading="A > B", metadata={"k": "v"})
    added, failed = client.add_references("docs", [good, "word " * 200])
    assert added.added
    assert failed.error is not None
    stored = client.get_reference("docs", added.id)
    assert stored.reference.heading == "A > B"
    assert stored.reference.metadata == {"k": "v"}
    assert [ref.id for ref in client.list_references("docs", source="s")] == [added.id]
    page = client.reference_page("docs", source="s", page_size=1)
    assert ([ref.id for ref in page.references], page.next_page_token) == ([added.id], "")
    deletion = client.delete_references("docs", [added.id, "0" * 32])
    assert (deletion.num_deleted, deletion.num_missing) == (1, 1)


def test_search_finds_by_falling_score(client: Client) -> None:
    """One query gives its hits, many give a list for each."""
    client.create_bank("docs")
    client.add("docs", ["Ada lives in Turin", "Bob sails", "Ada sings"])
    hits = client.search("docs", "Ada lives", k=2)
    assert [hit.reference.text for hit in hits] == ["Ada lives in Turin", "Ada sings"]
    assert [hit.score for hit in hits] == [1.0, 0.5]
    many = client.search_many("docs", ["Bob", ReferenceIds([hits[0].reference.id])], k=1)
    assert [[hit.reference.text for hit in found] for found in many] == [
        ["Bob sails"],
        ["Ada lives in Turin"],
    ]


def test_vector_query_reaches_the_server(client: Client) -> None:
    """A list of numbers is sent as a vector, which this server refuses by its field."""
    with pytest.raises(InvalidArgumentError) as caught:
        client.search("docs", [0.1, 0.2, 0.3])
    assert caught.value.field == "queries[0].vector"


def test_retrieve_joins_the_pieces_of_each_memory(client: Client) -> None:
    """Memories come whole, once each; held ones are not sent."""
    client.create_bank("docs")
    ids = client.add("docs", ["Ada lives", "Bob sails"]).reference_ids
    found = client.retrieve(
        "docs", ["Ada", "Bob", "Ada"], k=1, checkpoint_digest=DIGEST, held_ids=[ids[1]]
    )
    assert [[hit.reference_id for hit in hits] for hits in found.hits] == [
        [ids[0]],
        [ids[1]],
        [ids[0]],
    ]
    assert [hits[0].status for hits in found.hits] == ["sent", "held", "sent"]
    assert found.memories == {ids[0]: envelope_of(ids[0])}
    assert found.revision == 7


def test_retrieve_with_another_checkpoint_is_refused(client: Client) -> None:
    """The mismatch names both digests."""
    client.create_bank("docs")
    with pytest.raises(CheckpointMismatchError) as caught:
        client.retrieve("docs", "Ada", checkpoint_digest="ff" * 32)
    assert (caught.value.expected, caught.value.actual) == (DIGEST, "ff" * 32)


def test_generate_gives_text_usage_and_memories(client: Client, services: Services) -> None:
    """An answer has its text, tokens, times and what was attached with its mass."""
    answer = client.generate(
        "a prompt", bank="docs", stop=["\n"], max_tokens=2, report=True, with_references=True
    )
    assert (answer.text, answer.token_ids, answer.finish_reason) == (" w0 w1", (0, 1), "length")
    assert answer.usage.time_to_first_token == pytest.approx(0.012)
    (attached,) = answer.chunks[0].references
    assert (attached.id, attached.attention_mass) == ("r1", 0.25)
    assert attached.reference is not None
    assert attached.reference.source == "ada.md"
    sent = services.decoder.requests[0]
    assert (sent.bank, list(sent.sampling.stop)) == ("banks/docs", ["\n"])


def test_options_reach_the_request(client: Client, services: Services) -> None:
    """Every option is set, and what is not given stays unset."""
    client.generate(
        "p",
        temperature=0.5,
        top_k=3,
        seed=2**63,
        logit_bias={5: -1.0},
        stop_token_ids=[7],
        logprobs=1,
        n=2,
        ignore_eos=True,
        num_references=2,
        reference_ids=["x"],
        retrieval_timeout=0.25,
        strict=True,
    )
    sent = services.decoder.requests[0]
    assert sent.sampling.temperature == 0.5
    assert sent.sampling.seed == 2**63
    assert dict(sent.sampling.logit_bias) == {5: -1.0}
    assert sent.memory.retrieval_timeout.ToMilliseconds() == 250
    assert (sent.memory.num_references, list(sent.memory.reference_ids)) == (2, ["x"])
    assert not sent.sampling.HasField("top_p")


def test_choices_and_logprobs_are_kept_apart(client: Client) -> None:
    """Each choice has its own text; log-probabilities carry their alternatives."""
    answer = client.generate("p", n=2, logprobs=1, max_tokens=1)
    assert [choice.text for choice in answer.choices] == [" w0", " w0"]
    assert answer.logprobs[0].top[0].token_id == 9


def test_unknown_and_unfit_options_are_refused(client: Client) -> None:
    """A misspelt option lists the known ones; a value out of range names its field."""
    with pytest.raises(TypeError, match="max_tokens"):
        client.generate("p", max_token=3)  # type: ignore[call-arg]
    with pytest.raises(InvalidArgumentError) as caught:
        client.generate("p", max_tokens=2**40)
    assert caught.value.field == "sampling.max_tokens"
    with pytest.raises(InvalidArgumentError) as caught:
        client.generate("p", retrieval_timeout=float("nan"))
    assert caught.value.field == "memory.retrieval_timeout"


def test_stream_yields_events_as_they_come(client: Client) -> None:
    """Attached references come first, then text, then the end."""
    events = list(client.stream("p", bank="docs", max_tokens=2))
    assert [type(event) for event in events] == [ChunkMemories, TextDelta, TextDelta, Finish]


def test_leaving_a_stream_cancels_the_call(client: Client, services: Services) -> None:
    """Closing the iterator early ends the work on the server."""
    stream = client.stream("forever", max_tokens=10_000)
    next(stream)
    assert not services.decoder.cancelled.is_set()
    stream.close()  # type: ignore[attr-defined]
    assert services.decoder.cancelled.wait(5)


def test_stream_without_an_end_is_an_error(client: Client) -> None:
    """An answer is never returned half."""
    with pytest.raises(InternalError):
        client.generate("broken")


def test_call_timeout_is_a_deadline(client: Client) -> None:
    """The timeout of a call bounds the whole stream."""
    with pytest.raises(DeadlineExceededError):
        client.generate("forever", max_tokens=10_000, timeout=0.2)


def test_score_tokenize_embed_and_infos(client: Client) -> None:
    """The other calls give plain Python values."""
    scores = client.score("p", [" long", " a"])
    assert (scores.best, scores.scores[0].logprob) == (1, -5.0)
    assert (scores.degraded, scores.degraded_reason) == (False, "")
    late = client.score("p", " a", bank="docs")
    assert (late.degraded, late.degraded_reason) == (True, "the retriever is away")
    assert client.detokenize(client.tokenize("häh")) == "häh"
    assert client.embed("four", kind="reference") == [[-4.0, 0.0]]
    assert client.decoder_info().checkpoint.memory_layout.tokens_kept == 8
    assert client.retriever_info().cache == "local"
    assert client.encoder_info().codecs == ("int8", "raw")


def test_bank_administration(client: Client) -> None:
    """Verify, snapshot, restore and delete give typed reports."""
    client.create_bank("docs")
    client.add_references("docs", [Reference("x", source="corrupt")])
    report = client.verify_bank("docs")
    assert (report.num_checked, report.problems[0].reason) == (1, "MEMORY_CHECKSUM")
    assert client.snapshot_bank("docs", "monday").id == "monday"
    assert client.restore_bank("monday", "again").name == "again"
    client.delete_bank("docs")
    client.delete_bank("docs", allow_missing=True)
    with pytest.raises(NotFoundError):
        client.delete_bank("docs")


def test_nothing_listening_says_how_to_start() -> None:
    """An address where nobody answers is told with the command that helps."""
    with (
        Client(retriever="127.0.0.1:1") as client,
        pytest.raises(BackendUnavailableError) as caught,
    ):
        client.get_bank("docs", timeout=5)
    assert "127.0.0.1:1" in caught.value.message
    assert "memory3 up" in (caught.value.remedy or "")


def test_address_comes_from_argument_then_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong address names the service and the variable."""
    monkeypatch.setenv("MEMORY3_DECODER", "not an address")
    with pytest.raises(InvalidArgumentError) as caught:
        Client()
    assert caught.value.field == "decoder"
    assert "MEMORY3_DECODER" in (caught.value.remedy or "")
    Client(decoder="127.0.0.1:7300").close()


def test_closed_client_says_so(client: Client) -> None:
    """A method after close is refused in words."""
    client.close()
    with pytest.raises(InvalidArgumentError, match="closed"):
        client.get_bank("docs")


def test_unknown_write_policy_is_refused(client: Client) -> None:
    """The field and the known values are named."""
    with pytest.raises(InvalidArgumentError) as caught:
        client.create_bank("docs", write_policy="sometimes")  # type: ignore[arg-type]
    assert caught.value.field == "write_policy"


def test_help_shows_signature_and_docstring() -> None:
    """Methods made from calls look like methods to people and editors."""
    signature = inspect.signature(Client.search)
    assert list(signature.parameters) == ["self", "bank", "query", "k", "where", "timeout"]
    assert (Client.search.__doc__ or "").startswith("Find references")
    assert next(iter(inspect.signature(Client().search).parameters)) == "bank"


def test_both_clients_have_the_same_methods() -> None:
    """Nothing can be done with one client alone."""

    def public(cls: type) -> set[str]:
        return {name for name in dir(cls) if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)
