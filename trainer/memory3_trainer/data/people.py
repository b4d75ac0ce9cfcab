"""Made-up people as references and questions, in the three forms that a model learns in turn.

A model of this size reads by attribute and ignores the name until it has completed pairs of name
and value and nothing else; statements come next, questions over biographies last
(docs/experiments.md). Only people of the training split are made.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Literal

from tokenizers import Tokenizer

from memory3.data.references import AskedQuestion, ReadingSet, Reference
from memory3.people import (
    ATTRIBUTES,
    Person,
    attribute,
    biography,
    questions,
    sample_people,
)

Form = Literal["questions", "statements", "pairs"]
SIGNS = ("", "", ":", " -", " and", " has", " likes the")
"""What stands between name and value of a pair."""

_Asked = tuple[str, str]
"""What is asked, and what stands behind it."""


def people_set(
    tokenizer: Tokenizer,
    *,
    form: Form,
    num_people: int,
    together: int,
    related: float,
    num_facts: tuple[int, int] = (8, 8),
    seed: int,
    reference_length: int,
) -> ReadingSet:
    """One reference for every person, and one question for every fact that it states.

    Args:
        tokenizer: Of the model.
        form: What is read and asked.
        num_people: How many are made.
        together: People in a row who state the same facts, so that only the name tells them apart.
        related: Share of these who share a name with an earlier one of the row.
        num_facts: Facts that a row states, drawn from this range (both ends included).
        seed: Fixes everything.
        reference_length: A longer biography is cut.
    """
    rng = Random(seed)
    texts: list[str] = []
    asked: list[list[_Asked]] = []
    while len(texts) < num_people:
        people = sample_people(rng, min(together, num_people - len(texts)), related=related)
        people = _with_facts(people, rng.sample(sorted(ATTRIBUTES), rng.randint(*num_facts)))
        for text, pairs in _FORMS[form](rng, people):
            texts.append(text)
            asked.append(pairs)
    encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    references = [
        Reference(text, "", tuple(part.ids[:reference_length]))
        for text, part in zip(texts, encoded, strict=True)
    ]
    flat = [piece for pairs in asked for pair in pairs for piece in pair]
    pieces = [part.ids for part in tokenizer.encode_batch_fast(flat, add_special_tokens=False)]
    made: list[AskedQuestion] = []
    by_passage = []
    for passage, pairs in enumerate(asked):
        first = len(made)
        for text, _ in pairs:
            prompt, answer = pieces[2 * len(made)], pieces[2 * len(made) + 1]
            made.append(AskedQuestion(text, tuple(prompt), tuple(answer), passage, (passage,)))
        by_passage.append(tuple(range(first, len(made))))
    passages: list[tuple[int, ...]] = [(number,) for number in range(len(references))]
    return ReadingSet(references, passages, made, by_passage, tokenizer)


def statement(rng: Random, person: Person, name: str) -> _Asked:
    """A sentence about a fact, cut before the fact."""
    sentences = [sentence for sentence in attribute(name).sentences if not sentence.value_first]
    text, start = rng.choice(sentences).fill(person.name, person.facts[name])
    return text[: start - 1], text[start - 1 :]


def full_name_biography(rng: Random, person: Person) -> str:
    """A biography that names the person in every sentence."""
    facts = rng.sample(sorted(person.facts), len(person.facts))
    sentences = [rng.choice(attribute(name).sentences) for name in facts]
    filled = [
        sentence.fill(person.name, person.facts[name])[0]
        for sentence, name in zip(sentences, facts, strict=True)
    ]
    return " ".join(filled)


def pairs(rng: Random, people: list[Person]) -> list[tuple[str, _Asked]]:
    """A name and a value each, and the name to be completed."""
    name, sign = rng.choice(sorted(people[0].facts)), rng.choice(SIGNS)
    return [
        (
            f"{person.name}{sign} {person.facts[name]}.",
            (f"{person.name}{sign}", f" {person.facts[name]}."),
        )
        for person in people
    ]


def _with_facts(people: list[Person], kept: list[str]) -> list[Person]:
    return [replace(who, facts={name: who.facts[name] for name in kept}) for who in people]


def _pairs(rng: Random, people: list[Person]) -> list[tuple[str, list[_Asked]]]:
    return [(text, [asked]) for text, asked in pairs(rng, people)]


def _statements(rng: Random, people: list[Person]) -> list[tuple[str, list[_Asked]]]:
    return [
        (
            full_name_biography(rng, person),
            [statement(rng, person, name) for name in sorted(person.facts)],
        )
        for person in people
    ]


def _questions(rng: Random, people: list[Person]) -> list[tuple[str, list[_Asked]]]:
    return [
        (
            biography(rng, person),
            [
                (item.prompt, f" {item.answer}")
                for item in questions(rng, person, sorted(person.facts))
            ],
        )
        for person in people
    ]


_FORMS = {"pairs": _pairs, "statements": _statements, "questions": _questions}
