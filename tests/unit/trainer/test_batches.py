"""Batches: weights on answers, references whole, the same for the same seed."""

from __future__ import annotations

from dataclasses import fields
from itertools import islice

import pytest
import torch
from memory3_trainer.batches import ReadingBatch, ReadingBatches, ReadingTask, pad
from memory3_trainer.tokenizer import BEGIN, END, PAD, prefix_ids
from tokenizers import Tokenizer

from memory3.model.config import ModelConfig


@pytest.fixture(scope="module")
def drawn(batches: ReadingBatches) -> list[ReadingBatch]:
    """Twelve batches of both kinds."""
    return list(islice(batches, 12))


def test_both_kinds_are_drawn(drawn: list[ReadingBatch]) -> None:
    """References attached, and references as text."""
    assert {batch.attach for batch in drawn} == {True, False}


def test_shapes_belong_together(drawn: list[ReadingBatch], config: ModelConfig) -> None:
    """Every sequence has the same number of references, none longer than a reference may be."""
    for batch in drawn:
        assert batch.references.shape[0] == len(batch.lengths)
        assert len(batch.lengths) % 3 == 0
        assert int(batch.lengths.max()) <= config.memory.reference_length
        assert int(batch.lengths.min()) > 0
        for part in (batch.weights, batch.answers, batch.segments):
            assert part.shape == batch.context.shape
        assert int(batch.context.max()) < config.vocab_size


def test_a_context_begins_with_the_separator(
    drawn: list[ReadingBatch], config: ModelConfig
) -> None:
    """As the prompt does at inference; predicting it is not trained."""
    for batch in drawn:
        assert (batch.context[:, 0] == config.separator_id).all()
        assert (batch.weights[:, 0] == 0).all()


def test_full_weight_lies_on_answers(drawn: list[ReadingBatch], tokenizer: Tokenizer) -> None:
    """Each stretch of full weight is " answer" and a line break, behind its prompt."""
    num_answers = 0
    for batch in drawn:
        for ids, weights, first in zip(batch.context, batch.weights, batch.answers, strict=True):
            starts = first.nonzero()[:, 0].tolist()
            for start in starts:
                stop = start
                while (
                    stop < len(ids) and weights[stop] == 1.0 and (stop == start or not first[stop])
                ):
                    stop += 1
                answer = tokenizer.decode(ids[start:stop].tolist())
                assert answer.startswith(" ")
                assert answer.endswith("\n")
                assert tokenizer.decode(ids[:start].tolist()).endswith("\nAnswer:")
                num_answers += 1
            assert int((weights == 1.0).sum()) >= len(starts) > 0
    assert num_answers == 12 * 3 * 4


def test_answers_stand_in_the_references(drawn: list[ReadingBatch], tokenizer: Tokenizer) -> None:
    """What is asked can be read: each answer is a word of one of its sequence's references."""
    for batch in drawn:
        texts = [
            tokenizer.decode(ids[:length].tolist())
            for ids, length in zip(batch.references, batch.lengths.tolist(), strict=True)
        ]
        each = len(texts) // len(batch.context)
        for row, ids in enumerate(batch.context):
            own = " ".join(texts[row * each : (row + 1) * each])
            starts = batch.answers[row].nonzero()[:, 0].tolist()
            for start in starts:
                answer = tokenizer.decode(ids[start : start + 12].tolist()).split("\n")[0].strip()
                assert answer in own


def test_references_stand_in_the_context_only_as_text(
    drawn: list[ReadingBatch], tokenizer: Tokenizer
) -> None:
    """In the first stage they are in it, in the second they are not."""
    for batch in drawn:
        reference = tokenizer.decode(batch.references[0, : int(batch.lengths[0])].tolist())
        context = tokenizer.decode(batch.context[0].tolist())
        assert (reference in context) is not batch.attach


def test_questions_are_numbered_apart(drawn: list[ReadingBatch]) -> None:
    """What all share is segment 0; each question and its answer are one segment."""
    for batch in drawn:
        for segments, first, weights in zip(
            batch.segments, batch.answers, batch.weights, strict=True
        ):
            used = int((weights > 0).nonzero().max()) + 1
            assert segments[0] == 0
            assert (segments[:used].diff() >= 0).all()
            assert segments[first].tolist() == list(range(1, int(first.sum()) + 1))


def test_the_same_seed_gives_the_same_batches(
    batches: ReadingBatches, drawn: list[ReadingBatch], tokenizer: Tokenizer, config: ModelConfig
) -> None:
    """Iterated again it repeats itself; another seed gives others."""
    for expected, actual in zip(drawn[:4], batches, strict=False):
        for item in fields(ReadingBatch):
            if item.name == "attach":
                assert expected.attach == actual.attach
            else:
                assert torch.equal(getattr(expected, item.name), getattr(actual, item.name))
    other = ReadingBatches(
        tokenizer, lambda step: ReadingTask((1, 3)), batch_size=3, seed=6,
        separator_id=config.separator_id,
    )  # fmt: skip
    assert not torch.equal(next(iter(other)).references, drawn[0].references)


def test_the_task_of_each_step_is_asked_for(tokenizer: Tokenizer) -> None:
    """The difficulty of a batch follows its number."""
    batches = ReadingBatches(
        tokenizer, lambda step: ReadingTask((step + 1, step + 1), text_share=0.0), batch_size=2,
        seed=1, separator_id=1,
    )  # fmt: skip
    assert [len(batch.lengths) for batch in islice(batches, 3)] == [2, 4, 6]


def test_padding_is_zero_on_the_right() -> None:
    """Widths are multiples of eight."""
    padded = pad([[1, 2, 3], [4] * 9])
    assert padded.shape == (2, 16)
    assert padded[0].tolist() == [1, 2, 3] + [0] * 13


def test_the_tokenizer_keeps_every_text(tokenizer: Tokenizer) -> None:
    """Any text encodes and decodes to itself, and digits stand alone."""
    for text in ("Born in 1984.", "naïve — 任意\n\ttext", "</s>"):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert len(tokenizer.encode("1984", add_special_tokens=False).ids) == 4


def test_special_tokens_have_the_first_ids(tokenizer: Tokenizer) -> None:
    """Padding is zero, as `pad` fills; the prefix begins with `<s>`."""
    assert [tokenizer.token_to_id(token) for token in (PAD, BEGIN, END)] == [0, 1, 2]
    assert prefix_ids(tokenizer)[0] == 1
    assert tokenizer.decode(list(prefix_ids(tokenizer)[1:])) == "Reference:"
