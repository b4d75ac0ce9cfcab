"""Question batches: gold, retrieved or no references, as memories or as text."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from memory3_trainer.data.retrieved import (
    Dropout,
    Retrieved,
    RetrievedQuestionSource,
    retrieve,
)
from memory3_trainer.data.sources import QuestionSource, ReadingSettings, Share
from memory3_trainer.stages.batch import NONE, MemoryBatch
from tokenizers import Tokenizer

from memory3.data.documents import Document
from memory3.data.qa import Passage, Question, QuestionSet
from memory3.data.references import ReadingSet
from memory3.embedders.lexical import LexicalEmbedder
from memory3.errors import InvalidArgumentError
from memory3.model.config import ModelConfig

NAMES = ["Orla", "Benoit", "Chidi", "Dagny", "Emeka", "Fenna", "Goran", "Hedda"]
CITIES = ["Leeds", "Ghent", "Lagos", "Bergen", "Accra", "Delft", "Split", "Malmo"]


@pytest.fixture(scope="module")
def reading(tokenizer: Tokenizer) -> ReadingSet:
    """Eight people with a city and a hobby each, two questions about each."""
    passages, questions = {}, []
    for number, (name, city) in enumerate(zip(NAMES, CITIES, strict=True)):
        text = f"{name} lives in {city}.\n\n{name} likes to row on the river near {city}."
        passages[name] = Passage(name, "", text)
        for ask in (f"Where does {name} live?", f"In which city is the home of {name}?"):
            questions.append(Question(f"{number}", ask, (city,), name))
    return ReadingSet.of([QuestionSet(passages, questions)], tokenizer, reference_length=40)


@pytest.fixture(scope="module")
def embedder(reading: ReadingSet) -> LexicalEmbedder:
    """Trained on the references."""
    return LexicalEmbedder.train([item.text for item in reading.references])


@pytest.fixture(scope="module")
def retrieved(reading: ReadingSet, embedder: LexicalEmbedder) -> Retrieved:
    """Three references a question, among distractors too."""
    more = [Document(f"x{n}", "", f"A boat on the water, number {n}.") for n in range(20)]
    return retrieve(reading, embedder, k=3, distractors=more, reference_length=40)


def _texts(batch: MemoryBatch, tokenizer: Tokenizer, row: int) -> list[str]:
    read = sorted({int(n) for n in batch.reads[row].flatten() if n != NONE})
    return [
        tokenizer.decode(batch.references[n][: batch.lengths[n]].tolist(), skip_special_tokens=True)
        for n in read
    ]


def test_gold_references_hold_the_answer(reading: ReadingSet) -> None:
    """And no other reference of the set does."""
    for question in reading.questions:
        answer = reading.tokenizer.decode(list(question.answer)).strip()
        holding = [n for n, item in enumerate(reading.references) if answer in item.text]
        assert sorted(question.gold) == holding


def test_retrieval_finds_the_gold_references(retrieved: Retrieved, reading: ReadingSet) -> None:
    """Among distractors, which stand behind the references that are asked about."""
    assert retrieved.recall() == 1.0
    assert retrieved.reading.references[: len(reading.references)] == reading.references
    assert len(retrieved.reading.references) == len(reading.references) + 20


@pytest.mark.parametrize(
    ("dropout", "num_read"), [(Dropout(retrieved=1, none=0), 3), (Dropout(retrieved=0, none=1), 0)]
)
def test_a_condition_alone_is_all_that_is_read(
    retrieved: Retrieved, config: ModelConfig, dropout: Dropout, num_read: int
) -> None:
    """Three found references, or none at all."""
    source = RetrievedQuestionSource(
        retrieved, config, ReadingSettings(num_passages=4), dropout, seed=1
    )
    batch = source.batch(0, Share())
    assert set((batch.reads != NONE).sum(dim=2).flatten().tolist()) <= {num_read, 0}
    assert (batch.reads != NONE).any().item() == (num_read > 0)


def test_conditions_come_by_their_shares(retrieved: Retrieved, config: ModelConfig) -> None:
    """Of many questions about a third reads nothing, about a third what was found."""
    source = RetrievedQuestionSource(
        retrieved,
        config,
        ReadingSettings(num_passages=8, num_references=(1, 1)),
        Dropout(retrieved=1 / 3, none=1 / 3),
        seed=1,
    )
    counts = {0: 0, 1: 0, 3: 0}
    for number in range(40):
        batch = source.batch(number, Share())
        for read in (batch.reads[:, 0] != NONE).sum(dim=1).tolist():
            counts[read] += 1
    assert all(abs(count / sum(counts.values()) - 1 / 3) < 0.08 for count in counts.values())


@pytest.mark.parametrize("shares", [(-0.1, 0.0), (0.7, 0.4)])
def test_impossible_shares_are_refused(shares: tuple[float, float]) -> None:
    """None below 0, and not more than all."""
    with pytest.raises(InvalidArgumentError, match="shares"):
        Dropout(*shares)


def test_the_answer_weighs_one_and_the_question_little(
    reading: ReadingSet, config: ModelConfig, tokenizer: Tokenizer
) -> None:
    """Weights follow the tokens: question, answer, end; padding weighs nothing."""
    settings = ReadingSettings(num_passages=3, question_weight=0.25)
    batch = QuestionSource(reading, config, settings, seed=4).batch(0, Share())
    for tokens, weights in zip(batch.tokens, batch.weights, strict=True):
        answer = tokens[weights == 1.0].tolist()
        asked = tokenizer.decode(tokens[weights == 0.25].tolist())
        assert tokenizer.decode(answer[:-1]).strip() in CITIES
        assert answer[-1] == config.eos_id
        assert asked.startswith("Question: ")
        assert asked.endswith("\nAnswer:")


def test_long_questions_are_left_out(reading: ReadingSet, config: ModelConfig) -> None:
    """A batch is as wide as its longest question; a bound that none keeps is an error."""
    lengths = sorted(len(asked.prompt) + len(asked.answer) for asked in reading.questions)
    bound = lengths[len(lengths) // 2] + 1
    assert bound <= lengths[-1]
    settings = ReadingSettings(num_passages=4, max_tokens=bound)
    batch = QuestionSource(reading, config, settings, seed=4).batch(0, Share())
    assert batch.tokens.shape[1] <= 1 + bound
    with pytest.raises(InvalidArgumentError, match="no question is as short as 3 tokens"):
        QuestionSource(reading, config, ReadingSettings(max_tokens=3), seed=4)


def test_references_can_stand_as_text(
    reading: ReadingSet, config: ModelConfig, tokenizer: Tokenizer
) -> None:
    """The same references before the question, untrained; nothing is attached."""
    settings = ReadingSettings(num_passages=4, attach=False)
    batch = QuestionSource(reading, config, settings, seed=4).batch(0, Share())
    assert (len(batch.references), batch.reads.shape[-1]) == (0, 0)
    for tokens, weights in zip(batch.tokens, batch.weights, strict=True):
        before = tokenizer.decode(tokens[: int((weights > 0).nonzero()[0])].tolist())
        answer = tokenizer.decode(tokens[weights == 1.0][:-1].tolist()).strip()
        assert answer in before


def test_memories_and_text_show_the_same_references(
    reading: ReadingSet, config: ModelConfig, tokenizer: Tokenizer
) -> None:
    """The draw does not depend on how references are shown."""
    settings = ReadingSettings(num_passages=4)
    shown = [
        QuestionSource(reading, config, dataclasses.replace(settings, attach=attach), seed=4).batch(
            3, Share()
        )
        for attach in (True, False)
    ]
    for row in range(len(shown[0].tokens)):
        text = tokenizer.decode(shown[1].tokens[row].tolist())
        assert all(reference in text for reference in _texts(shown[0], tokenizer, row))


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_questions_without_overlap(
    reading: ReadingSet, config: ModelConfig, world_size: int
) -> None:
    """What the ranks ask together is what one process asks."""
    settings = ReadingSettings(num_passages=6)
    source = QuestionSource(reading, config, settings, seed=4)

    def asked(share: Share) -> list[tuple[int, ...]]:
        batch = source.batch(1, share)
        rows = zip(batch.tokens, batch.weights, strict=True)
        return [tuple(row[weight > 0].tolist()) for row, weight in rows]

    together = [row for rank in range(world_size) for row in asked(Share(rank, world_size))]
    assert sorted(together) == sorted(asked(Share()))


def test_a_batch_is_the_same_every_time(retrieved: Retrieved, config: ModelConfig) -> None:
    """Batch n depends on the seed and n alone."""

    def make(seed: int) -> RetrievedQuestionSource:
        return RetrievedQuestionSource(
            retrieved, config, ReadingSettings(num_passages=4), Dropout(), seed=seed
        )

    first = make(1)
    first.batch(0, Share())
    one, other = first.batch(3, Share()), make(1).batch(3, Share())
    assert all(
        torch.equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )
    assert not torch.equal(one.tokens[0], make(2).batch(3, Share()).tokens[0])
