"""Writes a person's biography: one paragraph with one short sentence for each fact.

Order and phrasing are random. The full name opens the paragraph, and later sentences mostly use
the pronoun, so that reading a fact takes tying it to a name some sentences away. This module
must not know questions.
"""

from random import Random
from typing import Final

from memory3.errors import InvalidArgumentError
from memory3.people.attributes import Sentence, attribute
from memory3.people.world import Person, pick, shuffled

_FULL_NAME_SHARE: Final = 0.3
_PART_NAME_SHARE: Final = 0.1


def biography(rng: Random, person: Person, *, num_facts: int | None = None) -> str:
    """Writes a biography.

    Args:
        rng: The source of randomness; the same state gives the same text.
        person: Whose biography.
        num_facts: How many facts to state, chosen at random; all of them when None.

    Returns:
        One paragraph without a line break, of about 60 words and full stops with all facts.

    Raises:
        InvalidArgumentError: ``num_facts`` is not between 1 and the number of facts of the person.
    """
    return biography_with_spans(rng, person, num_facts=num_facts)[0]


def biography_with_spans(
    rng: Random, person: Person, *, num_facts: int | None = None
) -> tuple[str, dict[str, tuple[int, int]]]:
    """Writes the same biography as ``biography`` and tells where each fact stands in it.

    Args:
        rng: The source of randomness; the same state gives the same text.
        person: Whose biography.
        num_facts: How many facts to state, chosen at random; all of them when None.

    Returns:
        The text, and for each stated attribute the characters ``(start, end)`` of its value, end
        exclusive, in the order of the text. Every value follows a space.

    Raises:
        InvalidArgumentError: ``num_facts`` is not between 1 and the number of facts of the person.
    """
    stated = shuffled(rng, tuple(person.facts))[: _checked(num_facts, len(person.facts))]
    written: list[str] = []
    spans: dict[str, tuple[int, int]] = {}
    position = 0
    for name in stated:
        value = person.facts[name]
        template = pick(rng, attribute(name).sentences)
        who = _mention(rng, person, template) if written else person.name
        sentence, offset = template.fill(who, value)
        spans[name] = (position + offset, position + offset + len(value))
        written.append(sentence)
        position += len(sentence) + 1
    return " ".join(written), spans


def _checked(num_facts: int | None, available: int) -> int:
    if num_facts is None:
        return available
    if not 1 <= num_facts <= available:
        raise InvalidArgumentError(
            f"{num_facts} facts cannot be stated of {available}",
            field="num_facts",
            remedy=f"give a number from 1 to {available}, or None",
        )
    return num_facts


def _mention(rng: Random, person: Person, template: Sentence) -> str:
    draw = rng.random()
    if draw < _FULL_NAME_SHARE:
        return person.name
    if draw < _FULL_NAME_SHARE + _PART_NAME_SHARE:
        return pick(rng, (person.first, person.last))
    return person.pronoun if template.opens_with_person else person.pronoun.lower()
