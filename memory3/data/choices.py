"""Multiple-choice sets, for knowledge tests and hallucination sets.

One file of ``id, question, choices[], answer`` where the answer is the index of the right choice,
counted from 0, or the list of the indices of all right ones; ``answers`` is read alike. With
passages beside it, ``passage_id`` may name the one that answers.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from memory3.data.records import Record, records


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """A question with choices.

    Attributes:
        right: Indices of the right ones; at least one.
        passage: Id of the passage that answers it; empty if none is named.
    """

    id: str
    question: str
    choices: tuple[str, ...]
    right: tuple[int, ...]
    passage: str = ""

    @classmethod
    def of(cls, record: Record) -> ChoiceQuestion:
        """Read a record.

        Raises:
            InvalidArgumentError: A field is missing or wrong; file and line are named.
        """
        choices = record.texts("choices")
        if len(choices) < 2 or not all(choice.strip() for choice in choices):
            raise record.error("choices", "are too few or blank", "give two choices or more")
        name = "answers" if "answers" in record.values else "answer"
        right = record.numbers(name)
        if not right or not all(0 <= number < len(choices) for number in right):
            raise record.error(
                name, "is no index of the choices", f"count from 0 to {len(choices) - 1}"
            )
        question = record.text("question")
        if not question.strip():
            raise record.error("question", "is blank", "give a question, or leave it out")
        return cls(
            record.text("id"),
            question,
            choices,
            tuple(sorted(set(right))),
            record.text("passage_id", default=""),
        )


def read_choices(path: Path, passages: Collection[str] = ()) -> list[ChoiceQuestion]:
    """Read a file of questions, and check the passages they name.

    Args:
        path: The file.
        passages: Ids of the passages that questions may name; none lets them name any.

    Raises:
        InvalidArgumentError: A line is wrong or names a passage that is not there.
    """
    questions = []
    for record in records(path):
        question = ChoiceQuestion.of(record)
        if question.passage and passages and question.passage not in passages:
            raise record.error(
                "passage_id",
                f"there is no passage {question.passage!r}",
                "give the passages that the questions were made for",
            )
        questions.append(question)
    return questions
