"""Adding documents and references: split, encoded, durable, idempotent, each on its own."""

import queue
import threading
from collections.abc import Callable

import pytest

from memory3.errors import BackendUnavailableError, InvalidArgumentError, NotFoundError
from memory3.errors import CorruptDataError as Corrupt
from memory3.v1 import memory_pb2, retriever_pb2
from tests.unit.retriever.calls import (
    BANK,
    add_documents,
    add_references,
    named_query,
    refused,
    retrieve,
    search,
)
from tests.unit.retriever.conftest import RunningRetriever
from tests.unit.retriever.encoder_double import EncoderDouble
from tests.waiting import eventually

GUIDE = retriever_pb2.Document(
    text="# Install\n\nRun the installer.\n\n# Use\n\nOpen the lid.",
    source="guide.md",
    title="Guide",
    metadata={"lang": "en"},
)


def test_a_document_becomes_references_with_their_origin(retriever: RunningRetriever) -> None:
    """Source, title, heading, span, tokens, metadata and time are all there."""
    retriever.create()
    (result,) = add_documents(retriever, GUIDE)
    assert (result.num_added, result.num_existing, result.source) == (2, 0, "guide.md")
    request = retriever_pb2.GetReferenceRequest(bank=BANK, id=result.reference_ids[1])
    response = retriever.stub.GetReference(request)
    reference = response.reference
    assert (reference.text, reference.heading) == ("Open the lid.", "Use")
    assert (reference.source, reference.title) == ("guide.md", "Guide")
    assert GUIDE.text[reference.span.start : reference.span.end] == reference.text
    assert dict(reference.metadata) == {"lang": "en"}
    assert reference.num_tokens > 0
    assert reference.create_time.seconds > 1_700_000_000
    assert response.memory_bytes > 1000


def test_adding_again_adds_nothing_and_encodes_nothing(
    retriever: RunningRetriever, encoder: EncoderDouble
) -> None:
    """Idempotent by content: same ids, same revision, no work for the encoder."""
    retriever.create()
    (first,) = add_documents(retriever, GUIDE)
    calls = encoder.calls["Encode"]
    (second,) = add_documents(retriever, GUIDE)
    assert second.reference_ids == first.reference_ids
    assert (second.num_added, second.num_existing) == (0, 2)
    assert encoder.calls["Encode"] == calls
    bank = retriever.stub.GetBank(retriever_pb2.GetBankRequest(name=BANK)).bank
    assert (bank.revision, bank.statistics.num_references) == (1, 2)


def test_the_same_document_twice_in_one_request(retriever: RunningRetriever) -> None:
    """Counts what the first brought as existing for the second."""
    retriever.create()
    first, second = add_documents(retriever, GUIDE, GUIDE)
    assert (first.num_added, first.num_existing) == (2, 0)
    assert (second.num_added, second.num_existing) == (0, 2)


def test_replace_removes_what_the_document_lost(retriever: RunningRetriever) -> None:
    """A changed document leaves nothing of its old self behind; others are untouched."""
    retriever.create()
    other = retriever_pb2.Document(text="Quite another text.", source="other.md")
    add_documents(retriever, GUIDE, other)
    changed = retriever_pb2.Document()
    changed.CopyFrom(GUIDE)
    changed.text = "# Install\n\nRun the installer.\n\n# Use\n\nPress the button."
    (result,) = add_documents(retriever, changed, replace=True)
    assert (result.num_added, result.num_existing, result.num_removed) == (1, 1, 1)
    assert search(retriever, "lid") != [["Open the lid."]]
    listed = retriever.stub.ListReferences(retriever_pb2.ListReferencesRequest(bank=BANK))
    assert {reference.text for reference in listed.references} == {
        "Run the installer.",
        "Press the button.",
        "Quite another text.",
    }


def test_replace_with_two_documents_of_one_source_keeps_both(retriever: RunningRetriever) -> None:
    """Within one request a source is what all of its documents say."""
    retriever.create()
    parts = [retriever_pb2.Document(text=f"Part {n}.", source="s") for n in range(2)]
    first, second = add_documents(retriever, *parts, replace=True)
    assert (first.num_removed, second.num_removed) == (0, 0)
    again = add_documents(retriever, parts[0], replace=True)
    assert again[0].num_removed == 1


def test_replace_without_a_source_replaces_nothing(retriever: RunningRetriever) -> None:
    """Texts of nowhere are never taken for earlier versions of one another."""
    retriever.create()
    add_documents(retriever, "First text.", replace=True)
    (result,) = add_documents(retriever, "Second text.", replace=True)
    assert (result.num_added, result.num_removed) == (1, 0)


def test_one_bad_document_does_not_harm_the_others(
    retriever: RunningRetriever, encoder: EncoderDouble
) -> None:
    """A blank one, one with too much metadata, and one that the encoder refuses in part."""
    retriever.create()
    encoder.refused.add("Refused.")
    results = add_documents(
        retriever,
        "Good text.",
        " \n ",
        retriever_pb2.Document(text="x", metadata={str(n): "v" for n in range(65)}),
        retriever_pb2.Document(text="# A\n\nFine.\n\n# B\n\nRefused.", source="half"),
        "Another good text.",
    )
    assert [result.num_added for result in results] == [1, 0, 0, 0, 1]
    errors = [(result.error.reason, result.error.field) for result in results]
    assert errors == [
        ("", ""),
        ("REFERENCE_BLANK", "documents[1].text"),
        ("INVALID_FIELD", "documents[2].metadata"),
        ("REFERENCE_BLANK", "documents[3].text"),
        ("", ""),
    ]
    assert search(retriever, "Fine.", k=10)[0].count("Fine.") == 0


def test_a_refused_document_does_not_cost_its_source_the_old_one(
    retriever: RunningRetriever, encoder: EncoderDouble
) -> None:
    """Replacing by something that cannot be encoded removes nothing."""
    retriever.create()
    add_documents(retriever, retriever_pb2.Document(text="Old.", source="s"))
    encoder.refused.add("New.")
    (result,) = add_documents(
        retriever, retriever_pb2.Document(text="New.", source="s"), replace=True
    )
    assert (result.error.reason, result.num_removed) == ("REFERENCE_BLANK", 0)
    assert search(retriever, "Old.") == [["Old."]]


def test_many_documents_are_encoded_in_batches(
    retriever: RunningRetriever, encoder: EncoderDouble
) -> None:
    """Hundreds of references for one call, all of them durable when acknowledged."""
    retriever.create()
    texts = [f"Document number {n} about topic {n % 7}." for n in range(256)]
    results = add_documents(retriever, *texts)
    assert sum(result.num_added for result in results) == 256
    assert encoder.calls["Encode"] == 2
    (long,) = add_documents(retriever, "\n\n".join(f"# H{n}\n\nText {n}." for n in range(700)))
    assert long.num_added == 700
    assert encoder.calls["Encode"] == 2 + 6


def test_references_are_added_each_on_its_own(
    retriever: RunningRetriever, encoder: EncoderDouble
) -> None:
    """Too long, blank, with a wrong span, refused, twice: each has its own outcome."""
    retriever.create()
    encoder.refused.add("refused")
    span = memory_pb2.CharacterSpan(start=7, end=3)
    references = [
        memory_pb2.Reference(text="good", source="s", title="t", heading="h"),
        memory_pb2.Reference(text="word " * 400),
        memory_pb2.Reference(text=" \t"),
        memory_pb2.Reference(text="good", span=span),
        memory_pb2.Reference(text="refused"),
        memory_pb2.Reference(text="good", source="s", title="t", heading="h"),
        memory_pb2.Reference(text="x", source="s" * 5000),
        memory_pb2.Reference(text="x", metadata={"k": "v" * 20_000}),
    ]
    request = retriever_pb2.AddReferencesRequest(bank=BANK, references=references)
    (response,) = retriever.stub.AddReferences(iter([request]))
    results = response.results
    assert [result.added for result in results] == [True] + [False] * 7
    assert results[5].id == results[0].id != ""
    assert [(result.error.reason, result.error.field) for result in results] == [
        ("", ""),
        ("REFERENCE_TOO_LONG", "references[1].text"),
        ("REFERENCE_BLANK", "references[2].text"),
        ("INVALID_FIELD", "references[3].span"),
        ("REFERENCE_BLANK", ""),
        ("", ""),
        ("INVALID_FIELD", "references[6].source"),
        ("INVALID_FIELD", "references[7].metadata"),
    ]


def test_a_stream_acknowledges_every_request_in_turn(retriever: RunningRetriever) -> None:
    """What was acknowledged is found while the stream is still open."""
    retriever.create()
    requests: queue.SimpleQueue[retriever_pb2.AddReferencesRequest | None] = queue.SimpleQueue()
    responses = retriever.stub.AddReferences(iter(requests.get, None))
    for number, bank in enumerate((BANK, "", BANK)):
        text = f"text of request {number}"
        references = [memory_pb2.Reference(text=text)]
        requests.put(retriever_pb2.AddReferencesRequest(bank=bank, references=references))
        assert next(responses).results[0].added
        assert search(retriever, text, k=1) == [[text]]
    requests.put(None)
    assert list(responses) == []


def test_a_cancelled_stream_keeps_what_was_acknowledged(retriever: RunningRetriever) -> None:
    """It is counted once, and its place is free again.

    As CANCELLED, or as OK where the server saw the requests end before it saw the cancellation:
    grpc reports the two one after the other.
    """
    retriever.create()
    requests: queue.SimpleQueue[retriever_pb2.AddReferencesRequest | None] = queue.SimpleQueue()
    responses = retriever.stub.AddReferences(iter(requests.get, None))
    references = [memory_pb2.Reference(text="kept text")]
    requests.put(retriever_pb2.AddReferencesRequest(bank=BANK, references=references))
    assert next(responses).results[0].added
    responses.cancel()
    method = "/memory3.v1.RetrieverService/AddReferences"
    assert eventually(lambda: retriever.sample("memory3_rpc_running", method=method) == 0)
    counted = {
        code: retriever.sample("memory3_rpc_requests_total", method=method, code=code)
        for code in ("CANCELLED", "OK", "UNKNOWN", "INTERNAL")
    }
    assert counted["CANCELLED"] + counted["OK"] == sum(counted.values()) == 1
    requests.put(None)
    assert search(retriever, "kept text") == [["kept text"]]


def test_a_stream_belongs_to_one_bank(retriever: RunningRetriever) -> None:
    """Another bank in a later request is refused; what was acknowledged stays."""
    retriever.create()
    retriever.create("other")
    for method, kind in (
        (retriever.stub.AddDocuments, retriever_pb2.AddDocumentsRequest),
        (retriever.stub.AddReferences, retriever_pb2.AddReferencesRequest),
    ):
        first = kind(bank=BANK)
        if isinstance(first, retriever_pb2.AddDocumentsRequest):
            first.documents.add(text="kept text")
        else:
            first.references.add(text="kept text")
        error = refused(lambda: method(iter([first, kind(bank="banks/other")])))  # noqa: B023
        assert isinstance(error, InvalidArgumentError)
        assert error.field == "bank"
    assert search(retriever, "kept text") == [["kept text", "kept text"]]


@pytest.mark.parametrize("policy", ["EAGER", "LAZY"])
def test_an_encoder_that_is_down_is_told_and_nothing_is_added(
    retriever: RunningRetriever, encoder: EncoderDouble, policy: str
) -> None:
    """UNAVAILABLE names the encoder; after it is back the same request succeeds."""
    retriever.create(write_policy=f"WRITE_POLICY_{policy}")
    encoder.failure = BackendUnavailableError("down for a test")
    error = refused(lambda: add_references(retriever, "text"))
    assert isinstance(error, BackendUnavailableError)
    assert error.field == "encoder"
    encoder.failure = None
    assert add_references(retriever, "text")[0].added


def test_a_vanished_encoder_is_told_within_the_deadline(
    retriever: RunningRetriever, encoder: EncoderDouble
) -> None:
    """No process behind the address at all."""
    retriever.create()
    encoder.stop()
    error = refused(
        lambda: retriever.stub.AddReferences(
            iter(
                [
                    retriever_pb2.AddReferencesRequest(
                        bank=BANK, references=[memory_pb2.Reference(text="x")]
                    )
                ]
            ),
            timeout=10,
        )
    )
    assert isinstance(error, BackendUnavailableError)


@pytest.mark.parametrize("policy", ["EAGER", "LAZY"])
def test_an_encoder_that_dies_while_encoding_is_told_at_once(
    retriever: RunningRetriever, encoder: EncoderDouble, policy: str
) -> None:
    """The call does not hang, and nothing of it is stored."""
    retriever.create(write_policy=f"WRITE_POLICY_{policy}")
    encoder.gate.clear()
    encoder.embed_delay_s = 1.0
    killer = threading.Timer(0.3, encoder.stop)
    killer.start()
    reference = memory_pb2.Reference(text="text")
    request = retriever_pb2.AddReferencesRequest(bank=BANK, references=[reference])
    # Far less than the time that one encoding may take: to wait for that would be another error.
    error = refused(lambda: list(retriever.stub.AddReferences(iter([request]), timeout=60)))
    assert isinstance(error, BackendUnavailableError)
    killer.join()
    bank = retriever.stub.GetBank(retriever_pb2.GetBankRequest(name=BANK)).bank
    assert bank.statistics.num_references == 0


def test_a_damaged_memory_from_the_encoder_is_never_stored(
    retriever: RunningRetriever, encoder: EncoderDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every envelope is verified before it is written."""
    from tests.unit.retriever import encoder_double

    retriever.create()
    whole = encoder_double.envelope_of
    monkeypatch.setattr(encoder_double, "envelope_of", lambda *args: whole(*args)[:-1] + b"!")
    error = refused(lambda: add_references(retriever, "text"))
    assert isinstance(error, Corrupt)
    monkeypatch.undo()
    bank = retriever.stub.GetBank(retriever_pb2.GetBankRequest(name=BANK)).bank
    assert bank.statistics.num_references == 0


def test_deleting_takes_references_out_of_everything(retriever: RunningRetriever) -> None:
    """Bank, index and cache; missing ids are counted, and a second time is no error."""
    retriever.create()
    ids = [result.id for result in add_references(retriever, "one apple", "two pears")]
    retrieve(retriever, named_query(*ids))
    request = retriever_pb2.DeleteReferencesRequest(bank=BANK, ids=[ids[0], "0" * 32])
    response = retriever.stub.DeleteReferences(request)
    assert (response.num_deleted, response.num_missing) == (1, 1)
    response = retriever.stub.DeleteReferences(request)
    assert (response.num_deleted, response.num_missing) == (0, 2)
    assert search(retriever, "one apple", k=10) == [["two pears"]]
    assert isinstance(refused(lambda: retrieve(retriever, named_query(ids[0]))), NotFoundError)
    report = retriever.stub.VerifyBank(retriever_pb2.VerifyBankRequest(name=BANK))
    assert (report.num_checked, list(report.problems)) == (1, [])


def test_deleting_by_source(retriever: RunningRetriever) -> None:
    """Every reference of the source, and no other."""
    retriever.create()
    add_references(retriever, "a one", "a two", source="a")
    add_references(retriever, "b one", source="b")
    request = retriever_pb2.DeleteReferencesRequest(bank=BANK, source="a")
    assert retriever.stub.DeleteReferences(request).num_deleted == 2
    assert search(retriever, "one", k=10) == [["b one"]]


def test_everything_is_there_after_a_restart(
    start_retriever: Callable[..., RunningRetriever],
) -> None:
    """Banks, references, memories and what was deleted, with either index."""
    first = start_retriever()
    first.create(index="hnsw:delta=16")
    ids = [r.id for r in add_references(first, *(f"text about thing {n}" for n in range(50)))]
    first.loaded.catalog.get("docs").settle()
    first.stub.DeleteReferences(retriever_pb2.DeleteReferencesRequest(bank=BANK, ids=ids[:10]))
    before = retrieve(first, named_query(*ids[10:])).envelopes
    second = start_retriever()
    assert retrieve(second, named_query(*ids[10:])).envelopes == before
    assert len(search(second, "text about thing", k=256)[0]) == 40
    report = second.stub.VerifyBank(retriever_pb2.VerifyBankRequest(name=BANK))
    assert (report.num_checked, list(report.problems)) == (40, [])
