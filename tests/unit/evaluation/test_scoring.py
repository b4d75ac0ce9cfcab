"""Exact match and F1 by hand, as the official SQuAD script counts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory3.evaluation.scoring import best, exact_match, f1, holds_answer, usable_answers

TABLE = [
    # prediction, answer, exact match, F1
    ("May 18, 2018", "may 18 2018", 1.0, 1.0),
    ("The Beatles", "beatles", 1.0, 1.0),
    ("the  Cat\tsat", "a cat sat.", 1.0, 1.0),
    ("308 points", "308", 0.0, 2 / 3),
    ("in New York City", "New York", 0.0, 2 * 2 / (4 + 2)),
    ("to be to be", "to be", 0.0, 2 * 2 / (4 + 2)),
    ("Paris", "London", 0.0, 0.0),
    ("", "London", 0.0, 0.0),
    ("...", "London", 0.0, 0.0),
    ("Zoë", "zoë", 1.0, 1.0),
    ("東京", "東京", 1.0, 1.0),
    ("ΣΊΣΥΦΟΣ", "σίσυφος", 1.0, 1.0),
    ("A", "a", 1.0, 1.0),  # the vitamin is no article
    ("the", "A", 0.0, 0.0),
    ("+", "-", 0.0, 0.0),
    ("mid-1990s", "mid1990s", 1.0, 1.0),
    ("theatre", "atre", 0.0, 0.0),
]


@pytest.mark.parametrize(("prediction", "answer", "exact", "overlap"), TABLE)
def test_scores_are_those_of_squad(
    prediction: str, answer: str, exact: float, overlap: float
) -> None:
    """Case, punctuation, English articles and spaces do not count; words do."""
    assert exact_match(prediction, answer) == exact
    assert f1(prediction, answer) == pytest.approx(overlap)


def test_the_best_answer_counts() -> None:
    """Each measure takes the answer that suits it best."""
    answers = ["18 May 2018", "2018", "in May"]
    assert best(exact_match, "2018", answers) == 1.0
    assert best(f1, "May 2018", answers) == pytest.approx(2 * 2 / (2 + 3))


@given(st.text(max_size=30), st.text(max_size=30))
def test_scores_are_shares_and_agree(prediction: str, answer: str) -> None:
    """F1 lies within 0 and 1, is the same both ways, and is 1 for what matches exactly."""
    value = f1(prediction, answer)
    assert 0.0 <= value <= 1.0
    assert value == f1(answer, prediction)
    if exact_match(prediction, answer) and answer.strip():
        assert value == 1.0


@pytest.mark.parametrize(
    ("text", "answers", "held"),
    [
        ("It was 308 points.", ["308"], True),
        ("It was 3080 points.", ["308"], False),
        ("It was the Panthers' defense", ["a panthers defense"], True),
        ("", ["308"], False),
        ("anything", [], False),
    ],
)
def test_an_answer_is_held_in_whole_words(text: str, answers: list[str], held: bool) -> None:
    """Numbers inside of longer ones are no answers."""
    assert holds_answer(text, answers) is held


def test_blank_answers_are_none() -> None:
    """White space is nothing to compare with."""
    assert usable_answers(["", " \n", "x"]) == ("x",)
