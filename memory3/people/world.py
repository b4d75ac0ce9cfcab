"""Draws made-up people: a name and one value for every attribute.

Values are uniform and independent of the name and of each other, so nothing but a person's
biography tells them and guessing scores one in ``num_values``. Only ``Random.random`` is drawn
from, which Python promises to repeat for a seed in every version. This module must not know
sentences or questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, TypeVar

from memory3.errors import InvalidArgumentError
from memory3.people.attributes import ATTRIBUTES
from memory3.people.names import (
    FIRST_NAMES,
    LAST_NAMES,
    PRONOUNS,
    Split,
    check_split,
    num_names,
    split_of,
)

T = TypeVar("T")

_RELATED_ATTEMPTS: Final = 200
# Below this share of all pairs a split is never exhausted, and counting it is not worth its time.
_SAFE_COUNT: Final = len(FIRST_NAMES) * len(LAST_NAMES) // 20


@dataclass(frozen=True, slots=True)
class Person:
    """A made-up person.

    Attributes:
        name: First and last name with one space between them.
        first: The first name.
        last: The last name.
        pronoun: ``"She"`` or ``"He"``, capitalised as at the start of a sentence.
        facts: The value of every attribute, by attribute name.
    """

    name: str
    first: str
    last: str
    pronoun: str
    facts: Mapping[str, str]


def pick(rng: Random, items: Sequence[T]) -> T:
    """Returns one of ``items``, each as likely as the others; ``items`` must not be empty."""
    return items[int(rng.random() * len(items))]


def shuffled(rng: Random, items: Sequence[T]) -> list[T]:
    """Returns ``items`` in random order."""
    return sorted(items, key=lambda _: rng.random())


def sample_people(
    rng: Random, count: int, split: Split = "train", *, related: float = 0.0
) -> list[Person]:
    """Draws people with names that are distinct within the call.

    Args:
        rng: The source of randomness; the same state gives the same people.
        count: How many people.
        split: Which side of the line between training and evaluation to draw names from.
        related: The probability, in [0, 1], that a person shares the first or the last name with
            an earlier person of this call. Such people are told apart only by the full name.

    Returns:
        ``count`` people.

    Raises:
        InvalidArgumentError: ``count`` is negative or above the number of names in the split,
            ``split`` is unknown, or ``related`` is not a probability.
    """
    _check(count, split, related)
    taken: set[tuple[str, str]] = set()
    earlier: list[tuple[str, str]] = []
    for _ in range(count):
        pair = None
        if related and earlier and rng.random() < related:
            pair = _related_pair(rng, earlier, taken, split)
        if pair is None:
            pair = _fresh_pair(rng, taken, split)
        taken.add(pair)
        earlier.append(pair)
    return [_person(rng, first, last) for first, last in earlier]


def _check(count: int, split: str, related: float) -> None:
    known = check_split(split)
    if count < 0:
        raise InvalidArgumentError(f"{count} is negative", field="count", remedy="give 0 or more")
    if count > _SAFE_COUNT and count > num_names(known):
        raise InvalidArgumentError(
            f"{count} is above the {num_names(known)} names of split {split!r}",
            field="count",
            remedy="draw the people in several calls",
        )
    if not 0.0 <= related <= 1.0:
        raise InvalidArgumentError(
            f"{related} is no probability", field="related", remedy="give a number from 0 to 1"
        )


def _fresh_pair(rng: Random, taken: set[tuple[str, str]], split: Split) -> tuple[str, str]:
    while True:
        pair = (pick(rng, FIRST_NAMES), pick(rng, LAST_NAMES))
        if pair not in taken and split_of(*pair) == split:
            return pair


def _related_pair(
    rng: Random, earlier: Sequence[tuple[str, str]], taken: set[tuple[str, str]], split: Split
) -> tuple[str, str] | None:
    # A family can run out of free names in a small split, hence the bound.
    for _ in range(_RELATED_ATTEMPTS):
        first, last = pick(rng, earlier)
        if rng.random() < 0.5:
            pair = (first, pick(rng, LAST_NAMES))
        else:
            pair = (pick(rng, FIRST_NAMES), last)
        if pair not in taken and split_of(*pair) == split:
            return pair
    return None


def _person(rng: Random, first: str, last: str) -> Person:
    facts = {name: pick(rng, item.values) for name, item in ATTRIBUTES.items()}
    return Person(f"{first} {last}", first, last, PRONOUNS[first], facts)
