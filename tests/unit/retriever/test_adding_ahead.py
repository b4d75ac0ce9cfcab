"""Requests of one stream: the encoder has the next while one is committed, and order is kept."""

import threading
import time
from collections.abc import Iterator

import pytest
from memory3_retriever.ingest.pipeline import Adding, Step, in_turn

from memory3.v1 import retriever_pb2
from tests.unit.retriever.calls import BANK, add_documents, search
from tests.unit.retriever.conftest import RunningRetriever
from tests.unit.retriever.encoder_double import EncoderDouble
from tests.waiting import eventually

WAIT_S = 20.0


class Work:
    """Requests that are numbers; notes what is done to each, and may be held or fail.

    Attributes:
        done: What was done, in order: ``read``, ``prepare`` or ``finish`` and the number.
        hold: While it is closed nothing is finished.
    """

    def __init__(self, *, failing: int = -1) -> None:
        self.done: list[tuple[str, int]] = []
        self.hold = threading.Event()
        self.hold.set()
        self._failing = failing

    def requests(self, count: int) -> Iterator[int]:
        """As a caller sends them."""
        for number in range(count):
            self.done.append(("read", number))
            yield number

    def begin(self, number: int) -> Adding[int]:
        """One step, whose outcome is ten times the number."""

        def prepare() -> int:
            self.done.append(("prepare", number))
            if number == self._failing:
                raise ValueError(number)
            # Later ones are ready sooner.
            time.sleep(0.01 * (number % 2 == 0))
            return 10 * number

        def finish(prepared: int) -> None:
            assert self.hold.wait(WAIT_S)
            self.done.append(("finish", number))
            outcomes.append(prepared)

        outcomes: list[int] = []
        return Adding([Step(prepare, finish)], lambda: outcomes)


def test_results_come_in_order() -> None:
    """Whichever is prepared first, each is finished and told in its turn."""
    work = Work()
    assert list(in_turn(work.requests(20), work.begin)) == [(n, [10 * n]) for n in range(20)]
    assert [n for what, n in work.done if what == "finish"] == list(range(20))


def test_the_next_are_prepared_while_one_is_finished_and_no_more_than_there_is_room() -> None:
    """Three wait behind the one that is held, prepared; the rest is not begun."""
    work = Work()
    work.hold.clear()
    results = in_turn(work.requests(20), work.begin)
    taken = threading.Thread(target=lambda: next(results))
    taken.start()
    eventually(lambda: ("prepare", 3) in work.done)
    time.sleep(0.05)
    assert not any(what == "finish" for what, _ in work.done)
    assert max(n for what, n in work.done if what == "prepare") == 3
    work.hold.set()
    taken.join(WAIT_S)
    assert len(list(results)) == 19


def test_a_failure_is_raised_in_its_turn() -> None:
    """What came before it is durable and told; what comes after is not finished."""
    work = Work(failing=3)
    told = []
    with pytest.raises(ValueError, match="3"):
        for number, _ in in_turn(work.requests(20), work.begin):
            told.append(number)
    assert told == [0, 1, 2]
    assert [n for what, n in work.done if what == "finish"] == [0, 1, 2]


def test_leaving_begins_nothing_more() -> None:
    """A caller that goes away frees the thread that reads, and its requests are not begun."""
    work = Work()
    results = in_turn(work.requests(1000), work.begin)
    next(results)
    results.close()  # type: ignore[attr-defined]
    eventually(lambda: not any(t.name == "read-ahead" for t in threading.enumerate()))
    assert sum(what == "finish" for what, _ in work.done) <= 2
    assert sum(what == "read" for what, _ in work.done) < 20


def test_the_encoder_has_two_requests_of_one_stream(
    retriever: RunningRetriever, encoder: EncoderDouble
) -> None:
    """The second is sent to it though the first is neither encoded nor acknowledged."""
    retriever.create()
    encoder.gate.clear()
    requests = [
        retriever_pb2.AddDocumentsRequest(
            bank=BANK, documents=[retriever_pb2.Document(text=f"Text {n}.", source=f"{n}")]
        )
        for n in range(2)
    ]
    responses = retriever.stub.AddDocuments(iter(requests), timeout=WAIT_S)
    eventually(lambda: encoder.calls["Encode"] == 2)
    encoder.gate.set()
    assert [r.results[0].source for r in responses] == ["0", "1"]


def test_what_a_request_before_it_removes_is_encoded_again(
    retriever: RunningRetriever, encoder: EncoderDouble
) -> None:
    """The second request keeps a reference that was there when it was begun, and then gone."""
    retriever.create()
    add_documents(retriever, retriever_pb2.Document(text="Kept.", source="s"))
    encoder.gate.clear()
    texts = ["Other.", "# A\n\nNew.\n\n# B\n\nMore."], ["Kept.", "Fresh."]
    requests = [
        retriever_pb2.AddDocumentsRequest(
            bank=BANK,
            replace=True,
            documents=[retriever_pb2.Document(text=text, source="s") for text in each],
        )
        for each in texts
    ]
    responses = retriever.stub.AddDocuments(iter(requests), timeout=WAIT_S)
    eventually(lambda: encoder.calls["Encode"] == 3)
    encoder.gate.set()
    first, second = responses
    assert sum(result.num_removed for result in first.results) == 1
    assert sum(result.num_added for result in second.results) == 2
    assert encoder.encoded["Kept."] == 2
    assert search(retriever, "Kept.", k=10)[0].count("Kept.") == 1
