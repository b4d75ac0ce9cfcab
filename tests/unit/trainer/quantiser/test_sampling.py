"""References are drawn evenly, and the same ones for a seed."""

from __future__ import annotations

from collections import Counter

import pytest
from memory3_trainer.quantiser.sampling import sample_references
from tokenizers import Tokenizer

from memory3.data.documents import Document
from memory3.errors import InvalidArgumentError

DOCUMENTS = [Document(str(n), "", f"This is text {n}.") for n in range(40)]


def _sample(tokenizer: Tokenizer, count: int, seed: int) -> list[str]:
    drawn = sample_references(DOCUMENTS, tokenizer, count, reference_length=32, seed=seed)
    return [tokenizer.decode(ids) for ids in drawn]


def test_each_reference_is_as_likely_as_any_other(tokenizer: Tokenizer) -> None:
    """Over 300 draws of 10 from 40 each comes 75 times, within five standard deviations."""
    counts = Counter(text for seed in range(300) for text in _sample(tokenizer, 10, seed))
    assert set(counts) == {document.text for document in DOCUMENTS}
    assert all(abs(count - 75) < 5 * (300 * 0.25 * 0.75) ** 0.5 for count in counts.values())


def test_a_seed_draws_the_same(tokenizer: Tokenizer) -> None:
    """And another seed something else, none of it twice."""
    assert _sample(tokenizer, 10, 1) == _sample(tokenizer, 10, 1)
    assert _sample(tokenizer, 10, 1) != _sample(tokenizer, 10, 2)
    assert len(set(_sample(tokenizer, 10, 1))) == 10


def test_all_are_taken_where_there_are_fewer(tokenizer: Tokenizer) -> None:
    """More than there are is not an error here."""
    assert len(_sample(tokenizer, 100, 0)) == 40


def test_no_text_is_an_error(tokenizer: Tokenizer) -> None:
    """Nothing to learn from."""
    with pytest.raises(InvalidArgumentError) as caught:
        sample_references([], tokenizer, 10, reference_length=32, seed=0)
    assert caught.value.field == "texts"
