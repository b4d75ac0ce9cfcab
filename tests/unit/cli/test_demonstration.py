"""The parts of the demonstration that need no services: exam, passages, statistics, verdict."""

from __future__ import annotations

import math
import tomllib
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from memory3.cli.demonstration.conditions import Outcome
from memory3.cli.demonstration.exam import make_exam
from memory3.cli.demonstration.passages import Reading, passage_documents, read_passages
from memory3.cli.demonstration.report import Findings
from memory3.cli.demonstration.statistics import is_at_chance, median, tail
from memory3.data.qa import Passage, Question, QuestionSet
from memory3.documents.splitter import Splitter
from memory3.sdk.answers import Answer, Choice, Finish, Usage

ROOT = Path(__file__).resolve().parents[3]


def test_tail_of_small_binomials() -> None:
    """The exact values of tosses that can be counted by hand."""
    assert tail(0, 10, 0.3) == pytest.approx(1.0)
    assert tail(3, 3, 0.5) == pytest.approx(1 / 8)
    assert tail(2, 3, 0.5) == pytest.approx(4 / 8)
    assert tail(1, 2, 0.1) == pytest.approx(1 - 0.9**2)


@given(n=st.integers(1, 300), chance=st.floats(0.001, 0.999), data=st.data())
def test_tail_is_a_falling_probability(n: int, chance: float, data: st.DataObject) -> None:
    """More right answers are never more likely, and neighbours differ by one term."""
    k = data.draw(st.integers(1, n))
    term = math.comb(n, k - 1) * chance ** (k - 1) * (1 - chance) ** (n - k + 1)
    assert tail(k, n, chance) <= tail(k - 1, n, chance) <= 1 + 1e-9
    assert tail(k - 1, n, chance) - tail(k, n, chance) == pytest.approx(term, abs=1e-9)


def test_chance_has_a_one_sided_bound() -> None:
    """At 1 of 20 over 200 questions, 20 right are luck and 22 are not; fewer never matter."""
    assert is_at_chance(0, 200, 0.05)
    assert is_at_chance(20, 200, 0.05)
    assert not is_at_chance(22, 200, 0.05)


def test_median_of_odd_even_and_none() -> None:
    """The middle, the mean of the two middles, 0."""
    assert (median([3, 1, 2]), median([4, 1, 2, 3]), median([])) == (2, 2.5, 0.0)


def test_exam_is_repeatable_and_its_answers_stand_in_the_texts() -> None:
    """The same seed makes the same exam; a biography holds its answer; the other is another."""
    exam = make_exam(7, 50, 40)
    assert exam == make_exam(7, 50, 40)
    assert exam != make_exam(8, 50, 40)
    assert len({document.source for document in exam.documents}) == 50
    for item in exam.items:
        assert item.question.answer in item.biography
        assert item.biography == exam.documents[item.person].text
        assert item.other != item.person
        assert item.prompt_with_text == f"{item.biography}\n{item.prompt}"
        assert item.prompt.startswith("Question: ")
        assert item.prompt.endswith("\nAnswer:")
    assert 0 < exam.chance < 0.5


def test_passages_are_packaged_and_fit_the_demonstration() -> None:
    """The files travel with the package; each answer stands in its passage and can be generated."""
    folder = files("memory3.cli.demonstration")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["memory3"]
    for name in ("world.passages.jsonl", "world.questions.jsonl"):
        assert folder.joinpath(name).is_file()
        assert any(fnmatch(f"cli/demonstration/{name}", pattern) for pattern in patterns)
    asked = read_passages()
    assert len({question.id for question in asked.questions}) == len(asked.questions) >= 100
    assert {question.passage_id for question in asked.questions} == asked.passages.keys()
    tokenizer = Tokenizer.from_file(str(ROOT / "checkpoints" / "people" / "tokenizer.json"))
    for question in asked.questions:
        assert question.answers
        for answer in question.answers:
            assert answer in asked.passages[question.passage_id].text
            assert 1 <= len(answer.split()) <= 4
            # The answer and the line's end fit into what the demonstration lets a model say.
            assert len(tokenizer.encode(f" {answer}\n", add_special_tokens=False).ids) <= 16


@pytest.mark.parametrize("name", ["people", "small"])
def test_a_passage_is_one_reference(name: str) -> None:
    """What is attached as a passage's own memory is the whole of it."""
    tokenizer = Tokenizer.from_file(str(ROOT / "checkpoints" / name / "tokenizer.json"))
    splitter = Splitter(tokenizer, 128)
    documents = passage_documents(read_passages())
    assert len({document.source for document in documents}) == len(documents) >= 40
    for document in documents:
        assert document.source == f"world/{document.title}"
        assert [piece.text for piece in splitter.split(document.text)] == [document.text]


def said(text: str) -> Answer:
    """An answer with this text."""
    usage = Usage(completion_tokens=2, time_to_first_token=0.01)
    return Answer((Choice(text, (1,), (), Finish(0, "stop", usage)),))


def reading() -> Reading:
    """Two questions, answered wrong, half right and right."""
    passage = Passage("t", "Tea", "Tea is drunk hot in the old town of Turin.")
    questions = [
        Question("t-1", "Where?", ("old town", "old town of Turin"), "t"),
        Question("t-2", "How?", ("hot",), "t"),
    ]
    answers = {
        "none": (said(" Rome"), said(" cold")),
        "retrieved": (said(" Turin town"), said(" Hot.")),
        "gold": (said(" the old town of Turin"), said(" hot")),
    }
    return Reading(QuestionSet({"t": passage}, questions), answers, 0.5)  # type: ignore[arg-type]


def test_real_passages_are_scored_as_evaluation_does() -> None:
    """Normalised exact match and F1, with the best of several right answers, in each condition."""
    assert reading().to_json() == {
        "num_passages": 1,
        "num_questions": 2,
        "recall_at_5": 0.5,
        "scores": {
            "none": {"em": 0.0, "f1": 0.0},
            "retrieved": {"em": 0.5, "f1": pytest.approx((2 / 3 + 1) / 2)},
            "gold": {"em": 1.0, "f1": 1.0},
        },
    }


def findings(num_right: dict[str, int]) -> Findings:
    """Findings of 40 questions with so many right answers in each condition."""
    exam = make_exam(7, 50, 40)
    outcomes = {name: Outcome((said(" x"),) * 40, num, 4.0) for name, num in num_right.items()}
    return Findings(
        exam=exam,
        outcomes=outcomes,  # type: ignore[arg-type]
        recall=0.99,
        examples=(),
        reading=reading(),
        bytes_per_reference=1234.5,
        checkpoint_digest="d" * 64,
        num_references=60,
        seconds=12.0,
    )


def test_verdict_needs_memory_to_help_and_its_absence_to_hurt() -> None:
    """0.90 with memories passes at chance without; either fault is named."""
    good = findings({"none": 1, "retrieved": 36, "text": 39, "wrong": 0})
    assert good.faults() == []
    weak = findings({"none": 1, "retrieved": 35, "text": 39, "wrong": 0})
    assert len(weak.faults()) == 1
    known = findings({"none": 30, "retrieved": 40, "text": 39, "wrong": 0})
    assert "the model knew these people" in known.faults()[0]


def test_findings_as_json_have_the_agreed_fields() -> None:
    """Readers of build/demo.json find what they look for."""
    written = findings({"none": 1, "retrieved": 36, "text": 39, "wrong": 0}).to_json()
    assert written["accuracy"] == {"none": 0.025, "retrieved": 0.9, "text": 0.975, "wrong": 0.0}
    assert written["ttft_ms"]["none"] == pytest.approx(10.0)
    assert written["tokens_per_second"]["text"] == pytest.approx(20.0)
    assert written["bytes_per_reference"] == 1234.5
    assert {"chance", "seconds", "num_people", "num_questions", "passed"} <= written.keys()
    assert {"retrieval_recall_at_5", "checkpoint_digest"} <= written.keys()
    assert written["real_passages"] == reading().to_json()
