"""The exam about people: made up anew, with biographies and one question about each of some.

It must not know services: it makes texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from memory3 import people
from memory3.sdk.references import Document


@dataclass(frozen=True, slots=True)
class Item:
    """One question with all that the four conditions need.

    Attributes:
        question: What is asked.
        biography: The text that holds the answer.
        person: The position of the person among all people.
        other: The position of a different person.
    """

    question: people.Question
    biography: str
    person: int
    other: int

    @property
    def prompt(self) -> str:
        """The question alone."""
        return self.question.prompt

    @property
    def prompt_with_text(self) -> str:
        """The biography, then the question."""
        return f"{self.biography}\n{self.question.prompt}"


@dataclass(frozen=True, slots=True)
class Exam:
    """People, their biographies as documents, and the questions."""

    documents: tuple[Document, ...]
    items: tuple[Item, ...]

    @property
    def chance(self) -> float:
        """The share of right answers by guessing values of the attribute asked for."""
        return people.chance([item.question for item in self.items])


def make_exam(seed: int, num_people: int, num_questions: int) -> Exam:
    """Makes up people that no training has seen and asks about some of them.

    Args:
        seed: The same seed makes the same exam.
        num_people: How many people, at least 2.
        num_questions: How many questions, each about another person where there are enough.

    Returns:
        The exam.
    """
    rng = Random(seed)
    everyone = people.sample_people(rng, num_people, split="evaluation")
    biographies = [people.biography(rng, person) for person in everyone]
    documents = tuple(
        Document(text, source=f"people/{person.name}")
        for person, text in zip(everyone, biographies, strict=True)
    )
    items = tuple(
        _item(rng, number % num_people, everyone, biographies) for number in range(num_questions)
    )
    return Exam(documents, items)


def _item(
    rng: Random, index: int, everyone: Sequence[people.Person], biographies: Sequence[str]
) -> Item:
    person = everyone[index]
    attribute = list(person.facts)[int(rng.random() * len(person.facts))]
    (question,) = people.questions(rng, person, [attribute])
    # Any of the others, each as likely: a step of 1 to all but one round the circle.
    step = 1 + int(rng.random() * (len(everyone) - 1))
    return Item(question, biographies[index], index, (index + step) % len(everyone))
