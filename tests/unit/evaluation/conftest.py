"""A tiny checkpoint with random weights, and made-up people as a question set."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from memory3.data.qa import Passage, Question, QuestionSet
from memory3.evaluation.subject import Subject
from memory3.people import biography, questions, sample_people
from memory3.testing.checkpoints import tiny_checkpoint


@pytest.fixture(scope="session")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Random weights: what it says means nothing, but is the same every time."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    tiny_checkpoint(folder, seed=2, references_per_chunk=3)
    return Subject.load(folder)


@pytest.fixture(scope="session")
def people() -> QuestionSet:
    """Twelve people and a question about each, and one that nobody can answer."""
    rng = Random(3)
    everyone = sample_people(rng, 12, "evaluation")
    passages = {p.name: Passage(p.name, "", biography(rng, p)) for p in everyone}
    asked = []
    for number, person in enumerate(everyone):
        (question,) = questions(rng, person, [sorted(person.facts)[number % 3]])
        asked.append(Question(f"q{number}", question.text, (question.answer,), person.name))
    nobody = replace(asked[0], id="nobody", answers=("  ",))
    return QuestionSet(passages, [*asked, nobody])
