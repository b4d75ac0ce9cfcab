"""Pairs from questions, people and texts, and holding some out."""

from __future__ import annotations

from random import Random

import pytest
from memory3_trainer.embedder.pairs import Pairs, of_people, of_questions, of_texts
from tokenizers import Tokenizer

from memory3.data.documents import Document
from memory3.data.qa import Passage, Question, QuestionSet
from memory3.errors import InvalidArgumentError

_STORY = (
    "The harbour master counts the boats every evening. A storm is expected from the north. "
    "Nobody on the quay believes the forecast of the radio. The last ferry leaves at nine. "
)


def _documents(count: int) -> list[Document]:
    return [
        Document(f"d{n}", f"Port {n}", _STORY.replace("evening", f"evening {n}") * 3)
        for n in range(count)
    ]


def _questions() -> QuestionSet:
    passages = {
        "p": Passage("p", "Port", "The master counts boats. " * 8 + "The ferry leaves at nine."),
        "q": Passage("q", "", "A storm comes from the north."),
    }
    return QuestionSet(
        passages,
        [
            Question("1", "When does the  ferry leave?", ("at nine",), "p"),
            Question("2", "Where from comes a storm?", ("the north",), "q"),
            Question("3", "Who believes it?", (), "q"),
        ],
    )


def test_a_question_finds_the_reference_that_holds_its_answer(tokenizer: Tokenizer) -> None:
    """Asked as the decoder asks, among references cut as the retriever cuts."""
    pairs = of_questions(
        "ports", _questions(), tokenizer, reference_length=32, most=9, random=Random(0)
    )
    assert pairs.queries[0] == "Question: When does the ferry leave?\nAnswer:"
    assert len(pairs.queries) == 2  # one has no answer
    assert len(pairs.references) > 2  # the long passage is cut
    for gold, answer in zip(pairs.gold, ("at nine", "the north"), strict=True):
        assert all(answer in pairs.references[number] for number in gold)
        assert not any(answer in text for n, text in enumerate(pairs.references) if n not in gold)
    assert pairs.references[pairs.gold[0][0]].startswith("Port\n")


def test_questions_without_answers_are_refused(tokenizer: Tokenizer) -> None:
    """There is nothing to find."""
    bare = QuestionSet(_questions().passages, [_questions().questions[2]])
    with pytest.raises(InvalidArgumentError, match="ports has no question with an answer"):
        of_questions("ports", bare, tokenizer, reference_length=32, most=9, random=Random(0))


def test_a_sentence_finds_the_reference_it_was_taken_out_of(tokenizer: Tokenizer) -> None:
    """Or, at an end, the next reference; each with its title, and few of any document."""
    documents = _documents(30)
    pairs = of_texts(documents, tokenizer, reference_length=64, most=90, random=Random(3))
    assert len(pairs.queries) == len(pairs.references) == 90
    assert pairs.gold == [(number,) for number in range(90)]
    taken_out = 0
    for query, reference, group in zip(pairs.queries, pairs.references, pairs.groups, strict=True):
        title, _, text = reference.partition("\n")
        assert title == f"Port {group}"
        assert query in documents[group].text
        taken_out += query not in text
    assert max(pairs.groups.count(group) for group in pairs.groups) == 4
    assert taken_out > 45


def test_texts_are_read_no_further_than_needed(tokenizer: Tokenizer) -> None:
    """A corpus of any size gives as many pairs as were asked for."""

    def endless() -> object:
        yield from _documents(5)
        raise AssertionError("read too far")

    pairs = of_texts(endless(), tokenizer, reference_length=64, most=8, random=Random(0))  # type: ignore[arg-type]
    assert len(pairs.queries) == 8


def test_texts_of_single_words_are_refused(tokenizer: Tokenizer) -> None:
    """No sentence, no pair."""
    with pytest.raises(InvalidArgumentError) as caught:
        of_texts([Document("a", "", "word")], tokenizer, reference_length=64, most=8,
                 random=Random(0))  # fmt: skip
    assert caught.value.field == "texts"


def test_pairs_follow_their_seed(tokenizer: Tokenizer) -> None:
    """The same seed draws the same, another draws others."""

    def draw(seed: int) -> tuple[Pairs, Pairs]:
        return (
            of_people(20, Random(seed)),
            of_texts(_documents(9), tokenizer, reference_length=64, most=20, random=Random(seed)),
        )

    assert draw(1) == draw(1)
    assert draw(1)[0] != draw(2)[0]
    assert draw(1)[1] != draw(2)[1]


def test_whole_documents_are_held_out() -> None:
    """No document is on both sides, and about the share that was asked for is held out."""
    groups = [number // 3 for number in range(60)]
    pairs = Pairs("set", ["q"] * 60, ["r"], [(0,)] * 60, groups)
    learnt, held = pairs.held_out(Random(0), share=0.2, most=500)
    assert sorted([*learnt, *held]) == list(range(60))
    assert {groups[n] for n in learnt}.isdisjoint(groups[n] for n in held)
    assert len(held) == 12
    assert len(pairs.held_out(Random(0), share=0.2, most=5)[1]) == 6


def test_one_document_is_too_few() -> None:
    """What is learnt could not be measured."""
    with pytest.raises(InvalidArgumentError, match="1 documents"):
        Pairs("set", ["q"], ["r"], [(0,)], [7]).held_out(Random(0), share=0.1, most=9)
