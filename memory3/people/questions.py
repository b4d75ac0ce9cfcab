"""Asks for the facts of a person, in the one format that training and evaluation share.

A question names the person in full and has a one-word answer. One phrasing of each attribute is
kept for evaluation. This module must not know biographies.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Literal, get_args

from memory3.errors import InvalidArgumentError
from memory3.people.attributes import Attribute, attribute
from memory3.people.world import Person, pick

Phrasing = Literal["train", "evaluation", "any"]
"""Which question templates to draw from; ``"any"`` is both together."""

PHRASINGS: Final[tuple[Phrasing, ...]] = get_args(Phrasing)


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one fact of one person.

    Attributes:
        person: Who is asked about.
        attribute: The name of the attribute asked for.
        text: The question, naming the person in full.
        answer: The value, one word.
    """

    person: Person
    attribute: str
    text: str
    answer: str

    @property
    def prompt(self) -> str:
        """The text a model is to continue with ``completion``."""
        return prompt(self.text)

    @property
    def completion(self) -> str:
        """The right continuation of ``prompt``."""
        return completion(self.answer)


def questions(
    rng: Random,
    person: Person,
    attributes: Iterable[str] | None = None,
    *,
    phrasing: Phrasing = "train",
) -> list[Question]:
    """Asks one question for each attribute.

    Args:
        rng: The source of randomness; the same state gives the same phrasings.
        person: Who is asked about.
        attributes: The attributes to ask for, in this order; all facts of the person when None.
        phrasing: Which templates to draw from. ``"evaluation"`` is the one never trained on.

    Returns:
        One question for each attribute, in order.

    Raises:
        InvalidArgumentError: An attribute or the phrasing is unknown, or the person lacks the fact.
    """
    if phrasing not in PHRASINGS:
        raise InvalidArgumentError(
            f"unknown phrasing {phrasing!r}",
            field="phrasing",
            remedy=f"give one of {', '.join(PHRASINGS)}",
        )
    names = person.facts if attributes is None else attributes
    return [_question(rng, person, attribute(name), phrasing) for name in names]


def _question(rng: Random, person: Person, asked: Attribute, phrasing: Phrasing) -> Question:
    answer = person.facts.get(asked.name)
    if answer is None:
        raise InvalidArgumentError(
            f"{person.name} has no fact {asked.name!r}",
            field="attributes",
            remedy=f"ask for some of {', '.join(person.facts)}",
        )
    if phrasing == "evaluation":
        template = asked.evaluation_only
    elif phrasing == "train":
        template = pick(rng, asked.train_questions)
    else:
        template = pick(rng, (*asked.train_questions, asked.evaluation_only))
    return Question(person, asked.name, template.replace("{name}", person.name), answer)


def prompt(question_text: str) -> str:
    """Formats a question as a prompt; it ends in a colon, without a space."""
    return f"Question: {question_text}\nAnswer:"


def completion(answer: str) -> str:
    """Formats an answer as the continuation of a prompt, with its space and line end."""
    return f" {answer}\n"


def chance(questions: Sequence[Question]) -> float:
    """Returns the expected share of right answers of one who knows the attribute but not the fact.

    Args:
        questions: The questions that would be answered.

    Returns:
        The mean of ``1 / num_values`` over the questions.

    Raises:
        InvalidArgumentError: ``questions`` is empty.
    """
    if not questions:
        raise InvalidArgumentError(
            "there are no questions", field="questions", remedy="give at least one"
        )
    return sum(1 / attribute(item.attribute).num_values for item in questions) / len(questions)
