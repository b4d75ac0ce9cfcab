"""The parts of the demonstration that need no services: the exam, the statistics, the verdict."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory3.cli.demonstration.conditions import Outcome
from memory3.cli.demonstration.exam import make_exam
from memory3.cli.demonstration.report import Findings
from memory3.cli.demonstration.statistics import is_at_chance, median, tail
from memory3.sdk.answers import Answer, Choice, Finish, Usage


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


def findings(num_right: dict[str, int]) -> Findings:
    """Findings of 40 questions with so many right answers in each condition."""
    exam = make_exam(7, 50, 40)
    usage = Usage(completion_tokens=2, time_to_first_token=0.01)
    answer = Answer((Choice(" x", (1,), (), Finish(0, "stop", usage)),))
    outcomes = {name: Outcome((answer,) * 40, num, 4.0) for name, num in num_right.items()}
    return Findings(exam, outcomes, 0.99, 1234.5, "d" * 64, 60, 12.0)  # type: ignore[arg-type]


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
