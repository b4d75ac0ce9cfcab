"""Biographies, questions and the tokenizer corpus."""

import re
from random import Random

import pytest

from memory3.errors import InvalidArgumentError
from memory3.people import (
    ATTRIBUTES,
    Question,
    Sentence,
    biography,
    biography_with_spans,
    chance,
    iter_documents,
    prompt,
    questions,
    sample_people,
    split_of,
)


def test_same_seed_gives_same_texts() -> None:
    """Biographies, questions and documents repeat for a seed."""
    person = sample_people(Random(1), 1)[0]
    assert biography(Random(2), person) == biography(Random(2), person)
    assert biography(Random(2), person) == biography_with_spans(Random(2), person)[0]
    assert questions(Random(3), person) == questions(Random(3), person)
    assert list(iter_documents(Random(4), 70)) == list(iter_documents(Random(4), 70))


def test_spans_point_at_the_values() -> None:
    """Every fact stands where its span says, after a space, and spans do not overlap."""
    rng = Random(5)
    for person in sample_people(rng, 500):
        text, spans = biography_with_spans(rng, person)
        assert person.facts == {name: text[start:end] for name, (start, end) in spans.items()}
        assert {" "} == {text[start - 1] for start, _ in spans.values()}
        borders = [border for span in spans.values() for border in span]
        assert sorted(borders) == borders


def test_biography_opens_with_the_full_name_and_stays_short() -> None:
    """The first sentence names the person, and a biography has 50 to 75 words on average."""
    rng = Random(6)
    lengths = []
    for person in sample_people(rng, 500):
        text = biography(rng, person)
        assert person.name in text.split(".")[0]
        lengths.append(len(re.findall(r"\w+|[^\w\s]", text)))
    assert 50 <= sum(lengths) / len(lengths) <= 75
    assert max(lengths) <= 90


def test_biography_states_as_many_facts_as_asked() -> None:
    """``num_facts`` facts are stated, and no other."""
    person = sample_people(Random(7), 1)[0]
    for num_facts in range(1, len(ATTRIBUTES) + 1):
        text, spans = biography_with_spans(Random(8), person, num_facts=num_facts)
        stated = {n for n, value in person.facts.items() if re.search(rf"\b{value}\b", text)}
        assert num_facts == len(spans)
        assert set(spans) == stated


def test_every_attribute_takes_every_place_in_a_biography() -> None:
    """Order is random, so position does not tell the attribute."""
    person = sample_people(Random(9), 1)[0]
    rng = Random(10)
    firsts = {next(iter(biography_with_spans(rng, person)[1])) for _ in range(200)}
    assert set(ATTRIBUTES) == firsts


@pytest.mark.parametrize("num_facts", [0, -1, len(ATTRIBUTES) + 1])
def test_impossible_number_of_facts_is_refused(num_facts: int) -> None:
    """The refusal names the argument and the range."""
    person = sample_people(Random(1), 1)[0]
    with pytest.raises(InvalidArgumentError, match=f"num_facts: {num_facts} facts .* from 1 to"):
        biography(Random(1), person, num_facts=num_facts)


def test_no_template_gives_a_value_away() -> None:
    """No sentence or question contains a word that is also a value."""
    values = {value.lower() for item in ATTRIBUTES.values() for value in item.values}
    for item in ATTRIBUTES.values():
        texts = [f"{part.head} {part.middle} {part.tail}" for part in item.sentences]
        texts += [*item.train_questions, item.evaluation_only]
        assert set() == set(re.findall(r"\w+", " ".join(texts).lower())) & values


def test_sentences_are_distinct_and_short() -> None:
    """Four or five sentences an attribute, each of five to ten words with a full name."""
    sentences = [part for item in ATTRIBUTES.values() for part in item.sentences]
    assert len(sentences) == len(set(sentences))
    assert {5} == {len(item.sentences) for item in ATTRIBUTES.values()}
    lengths = {len(part.fill("Ada Barlow", "Oslo")[0].split()) for part in sentences}
    assert min(lengths) >= 5
    assert max(lengths) <= 10


def test_held_out_phrasing_is_never_trained_on() -> None:
    """Training draws every other template, evaluation that one, and any draws all."""
    person = sample_people(Random(11), 1)[0]
    for name, item in ATTRIBUTES.items():
        rng = Random(12)
        seen: dict[str, set[str]] = {"train": set(), "evaluation": set(), "any": set()}
        for _ in range(100):
            seen["train"].add(questions(rng, person, [name])[0].text)
            seen["evaluation"].add(questions(rng, person, [name], phrasing="evaluation")[0].text)
            seen["any"].add(questions(rng, person, [name], phrasing="any")[0].text)
        assert {t.replace("{name}", person.name) for t in item.train_questions} == seen["train"]
        assert {item.evaluation_only.replace("{name}", person.name)} == seen["evaluation"]
        assert seen["train"].isdisjoint(seen["evaluation"])
        assert seen["train"] | seen["evaluation"] == seen["any"]


def test_questions_name_the_person_and_carry_the_fact() -> None:
    """One question for each attribute, in the order asked."""
    person = sample_people(Random(13), 1)[0]
    asked = questions(Random(14), person, ["pet", "birthplace"])
    assert [item.attribute for item in asked] == ["pet", "birthplace"]
    assert [person.facts["pet"], person.facts["birthplace"]] == [item.answer for item in asked]
    assert [item.text.count(person.name) for item in asked] == [1, 1]


def test_prompt_and_completion_have_the_shared_form() -> None:
    """The form that a trained checkpoint depends on, to the letter."""
    person = sample_people(Random(1), 1)[0]
    question = Question(person, "pet", "Which pet does Ada Moss have?", "cat")
    assert prompt("Where?") == "Question: Where?\nAnswer:"
    assert question.prompt == "Question: Which pet does Ada Moss have?\nAnswer:"
    assert question.completion == " cat\n"


def test_chance_is_the_mean_of_guessing() -> None:
    """Each question counts one in the number of its values."""
    person = sample_people(Random(15), 1)[0]
    asked = questions(Random(16), person, ["pet", "dish"])
    pets, dishes = ATTRIBUTES["pet"].num_values, ATTRIBUTES["dish"].num_values
    assert (1 / pets + 1 / dishes) / 2 == chance(asked)
    with pytest.raises(InvalidArgumentError, match="give at least one"):
        chance([])


def test_documents_of_training_hold_neither_evaluation_people_nor_phrasings() -> None:
    """A tokenizer trained on them has seen nothing kept for evaluation."""
    name = "([A-Z][a-z]+) ([A-Z][a-z]+)"
    held_out = [
        re.compile(re.escape(prompt(item.evaluation_only)).replace(r"\{name\}", name))
        for item in ATTRIBUTES.values()
    ]
    documents = list(iter_documents(Random(17), 200))
    assert len(documents) == 200
    for document in documents:
        assert [pattern.pattern for pattern in held_out if pattern.search(document)] == []
        assert 1 + 2 * len(ATTRIBUTES) == document.count("\n")
    people = {
        (first, last)
        for document in documents
        for first, last in re.findall(r"In which language does (\w+) (\w+) write", document)
    }
    assert len(people) > 20
    assert {"train"} == {split_of(first, last) for first, last in people}
    evaluation = "".join(iter_documents(Random(17), 200, "evaluation"))
    assert [pattern.pattern for pattern in held_out if not pattern.search(evaluation)] == []


def test_unknown_words_are_refused() -> None:
    """Unknown attributes, phrasings, splits and malformed templates name the remedy."""
    person = sample_people(Random(1), 1)[0]
    with pytest.raises(InvalidArgumentError, match=r"unknown attribute 'colour'.*birthplace"):
        questions(Random(1), person, ["colour"])
    with pytest.raises(InvalidArgumentError, match="unknown phrasing 'test'"):
        questions(Random(1), person, phrasing="test")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="unknown split 'test'"):
        iter_documents(Random(1), 1, "test")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="once each"):
        Sentence.parse("{who} is.")
