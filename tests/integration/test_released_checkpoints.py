"""What a plain clone carries: small enough, whole, and able to read what it has never seen."""

from pathlib import Path
from random import Random

import pytest

from memory3.checkpoint import Checkpoint
from memory3.data.qa import Passage, Question, QuestionSet
from memory3.evaluation.exam import QaSettings
from memory3.evaluation.qa import evaluate_qa
from memory3.evaluation.subject import Subject
from memory3.people import biography, questions, sample_people

FOLDER = Path(__file__).parents[2] / "checkpoints"
RELEASED = sorted(path.name for path in FOLDER.iterdir())


def exam(num_people: int) -> QuestionSet:
    """People whom no training has seen, and a question about each."""
    rng = Random(97)
    people = sample_people(rng, num_people, split="evaluation")
    passages = {who.name: Passage(who.name, "", biography(rng, who)) for who in people}
    asked = [questions(rng, who, [rng.choice(sorted(who.facts))])[0] for who in people]
    return QuestionSet(
        passages,
        [
            Question(str(number), item.text, (item.answer,), who.name)
            for number, (who, item) in enumerate(zip(people, asked, strict=True))
        ],
    )


def test_both_checkpoints_are_there() -> None:
    """The one of made-up people, and the one that has read real text."""
    assert {"people", "small"} <= set(RELEASED)


@pytest.mark.parametrize("name", RELEASED)
def test_a_clone_can_carry_it_and_every_file_is_whole(name: str) -> None:
    """At most 64 MB, hashes as in the manifest, and its own history told."""
    checkpoint = Checkpoint.open(FOLDER / name, verify=True)
    size = sum(file.stat().st_size for file in checkpoint.path.rglob("*") if file.is_file())
    assert size <= 64_000_000
    assert checkpoint.manifest.scores
    assert checkpoint.manifest.provenance["command"]


@pytest.mark.parametrize("name", RELEASED)
def test_answers_come_from_memories_and_from_nowhere_else(name: str) -> None:
    """Sixty questions: enough to tell a model that reads from one that guesses, no measurement."""
    subject = Subject.load(FOLDER / name)
    result = evaluate_qa(
        subject, exam(60), ("none", "gold", "retrieved", "wrong"), QaSettings(max_tokens=12)
    )
    assert result.scores["gold"].em >= 0.9
    assert result.scores["retrieved"].em >= 0.8
    assert result.scores["none"].em <= 0.1
    assert result.scores["wrong"].em <= 0.2
