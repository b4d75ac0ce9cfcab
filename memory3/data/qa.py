"""Question sets: passages, and questions whose answers stand in them.

A set is two files: ``NAME.passages.jsonl`` with ``id, title, text`` and ``NAME.questions.jsonl``
with ``id, question, answers[], passage_id``. Plain or compressed as `lines` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memory3.data.records import records


@dataclass(frozen=True, slots=True)
class Passage:
    """A text that holds answers."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question; without answers it cannot be answered from its passage."""

    id: str
    question: str
    answers: tuple[str, ...]
    passage_id: str


@dataclass(frozen=True)
class QuestionSet:
    """Questions and the passages they belong to.

    Attributes:
        passages: By id, in the order of the file.
        questions: In the order of the file.
    """

    passages: dict[str, Passage]
    questions: list[Question]

    @classmethod
    def read(cls, passages: Path, questions: Path) -> QuestionSet:
        """Read both files and check that they belong together.

        Raises:
            InvalidArgumentError: A file cannot be read, lacks a field or has a wrong one, or a
                question names a passage that is not there; file and line are named.
        """
        known = cls.read_passages(passages)
        asked = []
        for record in records(questions):
            question = Question(
                record.text("id"),
                record.text("question"),
                record.texts("answers"),
                record.text("passage_id"),
            )
            if not question.question.strip():
                raise record.error("question", "is blank", "give a question, or leave it out")
            if question.passage_id not in known:
                raise record.error(
                    "passage_id",
                    f"there is no passage {question.passage_id!r} in {passages.name}",
                    "give the passages that the questions were made for",
                )
            asked.append(question)
        return cls(known, asked)

    @staticmethod
    def read_passages(passages: Path) -> dict[str, Passage]:
        """Read passages by their ids.

        Raises:
            InvalidArgumentError: As `read`.
        """
        known: dict[str, Passage] = {}
        for record in records(passages):
            passage = Passage(
                record.text("id"), record.text("title", default=""), record.text("text")
            )
            if passage.id in known:
                raise record.error(
                    "id", f"{passage.id!r} is there twice", "give every passage its id"
                )
            known[passage.id] = passage
        return known


def read_named(name: Path) -> QuestionSet:
    """Read ``NAME.passages.jsonl`` and ``NAME.questions.jsonl``.

    Raises:
        InvalidArgumentError: As `QuestionSet.read`.
    """
    return QuestionSet.read(
        name.with_name(f"{name.name}.passages.jsonl"),
        name.with_name(f"{name.name}.questions.jsonl"),
    )
