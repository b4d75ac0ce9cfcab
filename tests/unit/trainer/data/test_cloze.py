"""Questions made from text: answers stand in it, questions do not give them away."""

from random import Random

import pytest
from memory3_trainer.data.cloze import cloze_questions, passages

TEXT = (
    "The lighthouse of Kerrin was built by Ada Marlow in 1874 on a granite island near Port Ellis."
    " It guided fishing boats for eighty years, until the harbour of Saint Bride was closed."
    " Its lamp burned whale oil at first; a second keeper, Tom Reed, brought 12 electric lamps."
    "\nOn March 3, 1954, the last crew left the island, and the tower became a quiet museum."
)


def test_answers_stand_in_the_passage_and_not_in_their_question() -> None:
    """Whatever is drawn, reading the passage is needed, and is enough."""
    for seed in range(200):
        for cloze in cloze_questions(TEXT, Random(seed), limit=4):
            assert cloze.answer in TEXT
            assert cloze.answer.strip()
            assert cloze.answer not in cloze.question


def test_names_years_dates_numbers_and_phrases_are_asked_for() -> None:
    """All kinds of answers come up, whole."""
    answers = {
        cloze.answer
        for seed in range(300)
        for cloze in cloze_questions(TEXT, Random(seed), limit=4)
    }
    assert {"Ada Marlow", "1874", "March 3, 1954", "12", "Tom Reed", "Port Ellis"} <= answers
    assert "granite island near" not in answers
    assert not answers & {"The", "It", "Its", "On"}


def test_the_same_seed_asks_the_same() -> None:
    """Questions are a function of text and seed."""
    assert cloze_questions(TEXT, Random(3), limit=4) == cloze_questions(TEXT, Random(3), limit=4)
    different = [cloze_questions(TEXT, Random(seed), limit=4) for seed in range(5)]
    assert any(different[0] != other for other in different)


def test_at_most_so_many_questions_in_the_order_of_the_text() -> None:
    """`limit` holds, and later questions come from later sentences."""
    for seed in range(30):
        found = cloze_questions(TEXT, Random(seed), limit=2)
        assert len(found) <= 2


def test_a_pronoun_can_stand_for_the_title() -> None:
    """Questions about "it" say what it is, at least at times."""
    asked = " ".join(
        cloze.question
        for seed in range(100)
        for cloze in cloze_questions(TEXT, Random(seed), title="Kerrin Light", limit=4)
    )
    assert "Kerrin Light" in asked


@pytest.mark.parametrize("text", ["", "Short.", "and of the in to a the of and", "…", "12 " * 300])
def test_text_without_sentences_asks_nothing_and_does_not_fail(text: str) -> None:
    """Lists, signs and fragments are passed over."""
    assert cloze_questions(text, Random(1), limit=4) == []


def test_passages_hold_the_text_once_in_pieces_of_the_size() -> None:
    """Nothing is lost but spacing, and a piece ends where a sentence ends."""
    whole = " ".join([TEXT] * 5)
    pieces = list(passages(whole, num_words=50))
    assert " ".join(pieces).split() == whole.split()
    assert all(piece.endswith(".") for piece in pieces)
    assert max(len(piece.split()) for piece in pieces) <= 50
    assert list(passages("", num_words=50)) == []
