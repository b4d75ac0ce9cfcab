"""Adding documents with the sync client: batches, order, and what cannot be added."""

from __future__ import annotations

import pytest

from memory3.client import Client, Document
from memory3.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    StorageFullError,
)
from tests.unit.client.servers import Services


def test_documents_go_in_batches_and_are_reported_in_order(
    client: Client, services: Services
) -> None:
    """Batches keep to the number given; results and progress come in the order of documents."""
    client.create_bank("docs")
    progress: list[str] = []
    report = client.add(
        "docs",
        (Document(f"text {number}", source=f"s{number}") for number in range(10)),
        max_documents=4,
        on_durable=lambda results: progress.extend(result.source for result in results),
    )
    assert services.retriever.batch_sizes == [4, 4, 2]
    assert [document.source for document in report.documents] == [f"s{n}" for n in range(10)]
    assert progress == [f"s{number}" for number in range(10)]
    assert (report.num_added, report.num_existing, len(report.reference_ids)) == (10, 0, 10)


def test_batches_keep_below_the_bytes_of_the_wire(client: Client, services: Services) -> None:
    """Many large documents are spread over requests of at most 3 MiB and a little."""
    client.create_bank("docs")
    client.add("docs", ["x" * 2**20] * 7, max_documents=256, max_bytes=3 * 2**20)
    assert max(services.retriever.batch_bytes) <= 3 * 2**20 + 100
    assert sum(services.retriever.batch_sizes) == 7
    assert len(services.retriever.batch_sizes) == 4


def test_document_above_the_limit_is_refused_before_sending(client: Client) -> None:
    """A text above 3 MiB raises an error that names it, and what was sent before stays."""
    client.create_bank("docs")
    texts = ["small", "x" * (3 * 2**20 + 2**17)]
    with pytest.raises(InvalidArgumentError) as caught:
        client.add("docs", texts, max_documents=1)
    assert caught.value.field == "documents[1].text"


def test_lone_surrogate_is_an_error_of_its_document(client: Client) -> None:
    """Text that UTF-8 cannot carry is refused by name."""
    with pytest.raises(InvalidArgumentError) as caught:
        client.add("docs", ["fine", "\ud800"])
    assert caught.value.field == "documents[1]"
    with pytest.raises(InvalidArgumentError):
        client.search("docs", "\ud800")


def test_bad_document_does_not_fail_the_others(client: Client) -> None:
    """One refused document is reported; its neighbours are added."""
    client.create_bank("docs")
    report = client.add("docs", ["good", "unacceptable", "also good"])
    assert report.num_added == 2
    (failed,) = report.failed
    assert failed.error is not None
    assert (failed.error.reason, failed.error.field) == ("INVALID_FIELD", "text")


def test_failed_call_raises_after_what_was_durable(client: Client) -> None:
    """When the server fails, earlier batches have been told and the typed error comes out."""
    client.create_bank("docs")
    durable: list[int] = []
    with pytest.raises(StorageFullError) as caught:
        client.add(
            "docs",
            ["a", "b", "disk-full", "c", "d"],
            max_documents=1,
            on_durable=lambda results: durable.append(len(results)),
        )
    assert durable == [1, 1]
    assert caught.value.remedy == "free some space"


def test_error_of_the_callers_iterator_is_the_callers(client: Client, services: Services) -> None:
    """An exception while the next document is made comes out as it is."""

    def documents() -> object:
        yield "one"
        raise KeyError("mine")

    client.create_bank("docs")
    with pytest.raises(KeyError, match="mine"):
        client.add("docs", documents(), max_documents=1)  # type: ignore[arg-type]


def test_slow_acknowledgement_is_a_deadline(client: Client) -> None:
    """A batch that is not acknowledged in time raises, saying that repeating is safe."""
    client.create_bank("docs")
    with pytest.raises(DeadlineExceededError) as caught:
        client.add("docs", "slow", timeout=0.2)
    assert "nothing is added twice" in (caught.value.remedy or "")


def test_adding_again_adds_nothing_and_replaces_what_is_gone(client: Client) -> None:
    """The same document is there already; a changed one replaces its old references."""
    client.create_bank("docs")
    client.add("docs", Document("one\n\ntwo", source="s"))
    again = client.add("docs", Document("one\n\ntwo", source="s"))
    assert (again.num_added, again.num_existing, again.num_removed) == (0, 2, 0)
    changed = client.add("docs", Document("one\n\nthree", source="s"))
    assert (changed.num_added, changed.num_existing, changed.num_removed) == (1, 1, 1)
