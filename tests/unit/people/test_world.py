"""Names, values and the drawing of people."""

from collections import Counter
from random import Random

import pytest

from memory3.errors import InvalidArgumentError
from memory3.people import (
    ATTRIBUTES,
    FIRST_NAMES,
    LAST_NAMES,
    Split,
    num_names,
    sample_people,
    split_of,
)

PINNED = ["Jane Waring", "Elsa Durand", "Roger Garland"]
PINNED_SPLITS = ["train"] * 11 + ["evaluation"]


def test_names_are_many_and_distinct() -> None:
    """No name is both a first and a last name, or written twice."""
    assert len(FIRST_NAMES) >= 400
    assert len(LAST_NAMES) >= 400
    names = FIRST_NAMES + LAST_NAMES
    assert len(names) == len(set(names))


def test_values_belong_to_one_attribute_and_are_no_names() -> None:
    """A word tells its attribute, whatever its capitals, and never looks like a person."""
    values = [value.lower() for item in ATTRIBUTES.values() for value in item.values]
    assert [value for value, times in Counter(values).items() if times > 1] == []
    assert set() == set(values) & {name.lower() for name in FIRST_NAMES + LAST_NAMES}


def test_values_are_single_ascii_words() -> None:
    """Every value and every name can become one token."""
    words = [value for item in ATTRIBUTES.values() for value in item.values]
    assert [
        word
        for word in [*words, *FIRST_NAMES, *LAST_NAMES]
        if not (word.isascii() and word.isalpha() and word in (word.lower(), word.title()))
    ] == []


def test_attributes_have_enough_values() -> None:
    """Guessing is hopeless for at least seven attributes."""
    assert len(ATTRIBUTES) >= 7
    assert {
        name: item.num_values
        for name, item in ATTRIBUTES.items()
        if not 60 <= item.num_values <= 120
    } == {}


def test_same_seed_gives_same_people() -> None:
    """Sampling depends on the seed and on nothing else."""
    first = sample_people(Random(5), 50, related=0.4)
    assert first == sample_people(Random(5), 50, related=0.4)
    assert first != sample_people(Random(6), 50, related=0.4)


def test_people_of_a_seed_stay_the_same_across_releases() -> None:
    """Pinned, since a stored evaluation is only comparable with the people it was made of."""
    actual = [person.name for person in sample_people(Random(1), 3, "evaluation")]
    assert actual == PINNED


def test_split_is_a_property_of_the_spelling() -> None:
    """Pinned: a change of the hash would move trained people into evaluation."""
    assert [split_of("Ada", last) for last in LAST_NAMES[:12]] == PINNED_SPLITS


def test_splits_are_disjoint_and_about_one_in_ten() -> None:
    """Every pair is in exactly one split."""
    total = len(FIRST_NAMES) * len(LAST_NAMES)
    assert num_names("train") + num_names("evaluation") == total
    assert num_names("evaluation") / total == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize("split", ["train", "evaluation"])
def test_people_come_from_the_split_with_distinct_names(split: Split) -> None:
    """Nobody of the other side is drawn, and nobody twice, related or not."""
    people = sample_people(Random(2), 2000, split, related=0.5)
    assert {split} == {split_of(person.first, person.last) for person in people}
    assert len({person.name for person in people}) == 2000
    assert [p for p in people if p.name != f"{p.first} {p.last}"] == []


def test_related_people_share_a_name_with_an_earlier_one() -> None:
    """With certainty one, everyone after the first has a namesake before."""
    people = sample_people(Random(3), 40, "evaluation", related=1.0)
    unrelated = []
    firsts, lasts = {people[0].first}, {people[0].last}
    for person in people[1:]:
        if person.first not in firsts and person.last not in lasts:
            unrelated.append(person.name)
        firsts.add(person.first)
        lasts.add(person.last)
    assert unrelated == []


def test_values_are_uniform() -> None:
    """The chi-square statistic of each attribute stays within five deviations of its mean."""
    people = sample_people(Random(4), 7000)
    for name, item in ATTRIBUTES.items():
        counts = Counter(person.facts[name] for person in people)
        expected = len(people) / item.num_values
        statistic = sum((counts[value] - expected) ** 2 / expected for value in item.values)
        freedom = item.num_values - 1
        assert abs(statistic - freedom) < 5 * (2 * freedom) ** 0.5, name


def test_values_of_two_attributes_are_independent() -> None:
    """Knowing the birthplace, one guesses the residence no better than by chance."""
    people = sample_people(Random(8), 20000)
    pairs = Counter((p.facts["birthplace"], p.facts["residence"]) for p in people)
    cells = ATTRIBUTES["birthplace"].num_values * ATTRIBUTES["residence"].num_values
    expected = len(people) / cells
    statistic = sum((times - expected) ** 2 / expected for times in pairs.values())
    statistic += (cells - len(pairs)) * expected
    assert abs(statistic - cells) < 5 * (2 * cells) ** 0.5


def test_too_many_people_are_refused_with_the_number_there_is() -> None:
    """A call that could never end says so instead."""
    with pytest.raises(InvalidArgumentError, match=f"above the {num_names('evaluation')} names"):
        sample_people(Random(0), num_names("evaluation") + 1, "evaluation")


def test_bad_arguments_are_named() -> None:
    """Each refusal names the argument."""
    with pytest.raises(InvalidArgumentError, match="count: -1"):
        sample_people(Random(0), -1)
    with pytest.raises(InvalidArgumentError, match=r"related: 1\.5"):
        sample_people(Random(0), 1, related=1.5)
    with pytest.raises(InvalidArgumentError, match="unknown split 'test'"):
        sample_people(Random(0), 1, "test")  # type: ignore[arg-type]
