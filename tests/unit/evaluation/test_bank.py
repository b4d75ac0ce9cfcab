"""Banks: cut as the retriever cuts, drawn the same way every time, and recall by hand."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest

from memory3.data.documents import Document
from memory3.documents.splitter import Splitter
from memory3.errors import InvalidArgumentError
from memory3.evaluation.bank import Bank, draw_documents
from memory3.evaluation.conditions import Asked, Readings, check_conditions
from memory3.evaluation.recall import recalls
from memory3.evaluation.subject import Subject

LONG = "\n\n".join(f"Paragraph {n} says that number {n} is here." * 3 for n in range(60))


@pytest.fixture
def bank(subject: Subject) -> Bank:
    """Three passages, the second long and the third empty, and two distractors."""
    bank = Bank(Splitter(subject.checkpoint.tokenizer, 128))
    bank.add_passage("tea", "Tea", "Tea is drunk hot.")
    bank.add_passage("long", "", LONG)
    bank.add_passage("empty", "", " \n ")
    bank.add_distractors(
        [Document("d1", "Milk", "Milk is drunk hot too."), Document("d2", "", LONG)]
    )
    return bank


def test_passages_are_cut_to_references(bank: Bank, subject: Subject) -> None:
    """No reference is longer than the checkpoint allows, and none is lost."""
    lengths = [len(subject.encode(reference.text)) for reference in bank.references]
    assert 0 < min(lengths) <= max(lengths) <= 128
    assert bank.by_passage["tea"] == (0,)
    assert len(bank.by_passage["long"]) > 10
    assert bank.by_passage["empty"] == ()
    assert sum(not reference.passage for reference in bank.references) > 10


@pytest.mark.parametrize("limit", [0, 1, 7])
def test_distractors_stop_at_the_limit(subject: Subject, limit: int) -> None:
    """The last document is cut short."""
    bank = Bank(Splitter(subject.checkpoint.tokenizer, 128))
    documents = [Document(f"{n}", "", LONG) for n in range(3)]
    assert bank.add_distractors(documents, limit) == limit
    assert len(bank.references) == limit


def test_a_bank_finds_by_title_and_text(bank: Bank, subject: Subject) -> None:
    """The nearest come first; an empty bank finds nothing."""
    (found,) = bank.search(["What of number 37?"], 3, subject.embedder)
    assert len(found) == 3
    assert "number 37" in bank.references[found[0]].text
    assert bank.search(["Tea"], 1, subject.embedder) == [[0]]
    empty = Bank(Splitter(subject.checkpoint.tokenizer, 128))
    assert empty.search(["a", "b"], 3, subject.embedder) == [[], []]


def test_documents_are_drawn_whatever_their_order(tmp_path: Path) -> None:
    """The seed alone decides, not the order of the files; another seed draws others."""
    rows = [{"id": f"{n}", "title": "", "text": f"text {n}"} for n in range(40)]
    lines = [json.dumps(row) + "\n" for row in rows]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    (tmp_path / "b.jsonl.xz").write_bytes(lzma.compress("".join(reversed(lines)).encode()))
    one = draw_documents([tmp_path / "a.jsonl"], 5, 1)
    assert draw_documents([tmp_path / "b.jsonl.xz"], 5, 1) == one
    assert len({document.id for document in one}) == 5
    assert draw_documents([tmp_path / "a.jsonl"], 5, 2) != one
    assert draw_documents([tmp_path / "a.jsonl"], 8, 1)[:5] == one
    assert len(draw_documents([tmp_path / "a.jsonl"], None, 1)) == 40


def test_conditions_read_what_they_say(bank: Bank) -> None:
    """Found, own, another's or nothing; as memory or as text."""
    readings = Readings(bank, num_references=3, seed=0)
    long = bank.by_passage["long"]
    asked = Asked("q", "long", ("number 59",), (0, 5, 6, 7))
    assert readings.of("none", asked).references == ()
    assert readings.of("retrieved", asked).references == (0, 5, 6)
    assert not readings.of("retrieved", asked).as_text
    text = readings.of("text", asked)
    assert (text.references, text.as_text) == ((0, 5, 6), True)
    gold = readings.of("gold", asked).references
    assert gold == (*long[:2], long[-1])  # the reference that holds the answer is the last
    assert readings.of("gold-text", asked).references == gold
    assert readings.of("wrong", asked).references == (0,)
    assert readings.of("gold", Asked("q", "empty", ("x",), ())).references == ()


def test_wrong_needs_another_passage(subject: Subject) -> None:
    """A set of one passage has nothing wrong to read."""
    bank = Bank(Splitter(subject.checkpoint.tokenizer, 128))
    bank.add_passage("only", "", "Only this.")
    with pytest.raises(InvalidArgumentError, match="second passage"):
        Readings(bank, num_references=3).of("wrong", Asked("q", "only", ("x",), ()))


@pytest.mark.parametrize("names", [(), ("none", "gold-txt")])
def test_unknown_conditions_are_refused(names: tuple[str, ...]) -> None:
    """The error lists those that there are."""
    with pytest.raises(InvalidArgumentError, match="is no condition") as caught:
        check_conditions(names)
    assert "retrieved" in str(caught.value.remedy)


def test_recall_counts_references(bank: Bank) -> None:
    """By place of the first own reference, and of the first that holds an answer anywhere."""
    long = bank.by_passage["long"]
    milk = next(n for n, r in enumerate(bank.references) if r.title == "Milk")
    asked = [
        Asked("own first", "tea", ("hot",), (0, long[0])),
        Asked("answer elsewhere", "tea", ("hot",), (milk, long[0], 0)),
        Asked("nothing", "tea", ("hot",), ()),
        Asked("never", "tea", ("cold",), (long[0], long[1])),
    ]
    assert recalls(bank, asked, (1, 2, 3)) == {
        "recall@1": 0.25, "recall@2": 0.25, "recall@3": 0.5,
        "answer_recall@1": 0.5, "answer_recall@2": 0.5, "answer_recall@3": 0.5,
    }  # fmt: skip
