"""Multiple choice: sets as files, and scores against log-probabilities summed by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from memory3.data.choices import ChoiceQuestion, read_choices
from memory3.documents.splitter import Splitter
from memory3.errors import InvalidArgumentError
from memory3.evaluation.bank import Bank
from memory3.evaluation.choice import ChoiceSettings, evaluate_choice
from memory3.evaluation.decoding import Prompt
from memory3.evaluation.likelihood import Continuation, Likelihood
from memory3.evaluation.memories import MemoryStore
from memory3.evaluation.subject import Subject

ROW: dict[str, Any] = {"id": "1", "question": "Why?", "choices": ["yes", "no", "both"], "answer": 1}


def _file(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "mc.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def bank(subject: Subject) -> Bank:
    """Two passages."""
    bank = Bank(Splitter(subject.checkpoint.tokenizer, 128))
    bank.add_passage("p1", "", "Ada was born in Rome.")
    bank.add_passage("p2", "", "Bo keeps a dog.")
    return bank


def test_one_or_several_are_right(tmp_path: Path) -> None:
    """An index, a list of them, under either name; a passage may be named."""
    several = {"id": 2, "question": "How?", "choices": ["a", "b"], "answers": [1, 0, 1]}
    path = _file(tmp_path, ROW, several, {**ROW, "answer": [0], "passage_id": "p"})
    assert read_choices(path) == [
        ChoiceQuestion("1", "Why?", ("yes", "no", "both"), (1,)),
        ChoiceQuestion("2", "How?", ("a", "b"), (0, 1)),
        ChoiceQuestion("1", "Why?", ("yes", "no", "both"), (0,), "p"),
    ]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"answer": 3}, "answer"),
        ({"answer": -1}, "answer"),
        ({"answer": "1"}, "answer"),
        ({"answer": True}, "answer"),
        ({"answers": []}, "answers"),
        ({"choices": ["one"]}, "choices"),
        ({"choices": ["one", " "]}, "choices"),
        ({"choices": "one"}, "choices"),
        ({"question": " "}, "question"),
        ({"passage_id": "absent"}, "passage_id"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    """File, line and field stand in the error."""
    path = _file(tmp_path, ROW, {**ROW, **change})
    with pytest.raises(InvalidArgumentError, match=r"mc\.jsonl, line 2") as caught:
        read_choices(path, ["p1"])
    assert caught.value.field == field


def test_scores_follow_from_log_probabilities(subject: Subject, bank: Bank) -> None:
    """The likeliest choice, the likeliest by its length, and the mass of the right ones."""
    questions = [
        ChoiceQuestion("1", "Where was Ada born?", ("in Rome", "a dog keeps it", "x"), (0,), "p1"),
        ChoiceQuestion("2", "Who keeps a dog?", ("Bo", "Ada in Rome", "nobody"), (0, 2), "p2"),
    ]
    scores, settings = evaluate_choice(
        subject, bank, questions, ["none", "gold", "retrieved", "text"], ChoiceSettings()
    )
    store = MemoryStore(subject, lambda n: subject.encode(bank.references[n].text))
    likelihood = Likelihood(subject, store, num_references=3)
    plain = normalised = mass = 0.0
    for number, question in enumerate(questions):
        prompt = Prompt(tuple(subject.encode(f"Question: {question.question}\nAnswer:")), (number,))
        items = [Continuation(prompt, tuple(subject.encode(f" {c}"))) for c in question.choices]
        own = [sum(item) for item in likelihood.logprobs(items)]
        by_length = [value / len(c) for value, c in zip(own, question.choices, strict=True)]
        plain += own.index(max(own)) in question.right
        normalised += by_length.index(max(by_length)) in question.right
        chances = [math.exp(value) for value in own]
        mass += sum(chances[n] for n in question.right) / sum(chances)
    assert scores["gold"].n == 2
    assert scores["gold"].accuracy == plain / 2
    assert scores["gold"].accuracy_normalised == normalised / 2
    assert scores["gold"].mc2 == pytest.approx(mass / 2)
    assert len({score.mc2 for score in scores.values()}) == 4
    assert settings["num_bank_references"] == 2


@pytest.mark.parametrize(
    ("condition", "passage", "message"),
    [("retrieved", "", "needs passages"), ("gold", "", "needs passages")],
)
def test_conditions_need_passages(
    subject: Subject, condition: str, passage: str, message: str
) -> None:
    """Without a bank only `none` can be asked for."""
    empty = Bank(Splitter(subject.checkpoint.tokenizer, 128))
    question = ChoiceQuestion("1", "Why?", ("a", "b"), (0,), passage)
    with pytest.raises(InvalidArgumentError, match=message):
        evaluate_choice(subject, empty, [question], [condition], ChoiceSettings())


def test_gold_needs_a_named_passage(subject: Subject, bank: Bank) -> None:
    """The question without one is named."""
    question = ChoiceQuestion("lost", "Why?", ("a", "b"), (0,))
    with pytest.raises(InvalidArgumentError, match="'lost' names no passage"):
        evaluate_choice(subject, bank, [question], ["gold"], ChoiceSettings())
