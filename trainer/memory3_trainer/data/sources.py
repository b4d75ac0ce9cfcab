"""What batches are made of: windows of text, questions with references in memory or as text.

Every source makes its batch number n directly, so that training goes on at any step, and the ranks
of a distributed run share a source without overlap: they take the examples of a batch in turn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import numpy as np
from numpy.typing import NDArray

from memory3.data.prompts import prompt_with_passages
from memory3.data.references import AskedQuestion, ReadingSet
from memory3.errors import InvalidArgumentError
from memory3.model.config import ModelConfig
from memory3_trainer.data.packing import PackedText
from memory3_trainer.stages.batch import Example, MemoryBatch, collate


@dataclass(frozen=True)
class Share:
    """Which part of every batch a process takes.

    Attributes:
        rank: Its number.
        world_size: How many processes there are.
    """

    rank: int = 0
    world_size: int = 1

    def of(self, batch_size: int) -> range:
        """The places of a batch that are this process's own.

        Raises:
            InvalidArgumentError: There are fewer than processes.
        """
        if batch_size < self.world_size:
            raise InvalidArgumentError(
                f"a batch has {batch_size} examples for {self.world_size} processes",
                field="batch_size",
                remedy="raise batch_size (num_passages for questions) or use fewer processes",
            )
        return range(self.rank, batch_size, self.world_size)


class Source(ABC):
    """Makes batches by number."""

    @abstractmethod
    def batch(self, number: int, share: Share) -> MemoryBatch:
        """Batch `number`, the same every time; a share of it in a distributed run."""


class TextSource(Source):
    """Windows of packed text; an epoch reads each once, in an order of its own.

    Args:
        pack: The text.
        config: Chunk length and special tokens.
        batch_size: Windows of a batch over all processes.
        length: Tokens of a window.
        seed: Fixes the order.

    Attributes:
        num_windows: Windows of the pack.
    """

    def __init__(
        self, pack: PackedText, config: ModelConfig, *, batch_size: int, length: int, seed: int
    ) -> None:
        self._pack, self._config = pack, config
        self._batch_size, self._length, self._seed = batch_size, length, seed
        self.num_windows = pack.num_windows(length)

    def window_numbers(self, number: int, share: Share) -> list[int]:
        """The windows of a batch that are a process's own."""
        places = [number * self._batch_size + place for place in share.of(self._batch_size)]
        return [
            int(draw_order(self._seed, place // self.num_windows, self.num_windows)[at])
            for place in places
            for at in (place % self.num_windows,)
        ]

    def batch(self, number: int, share: Share) -> MemoryBatch:
        """See `Source.batch`."""
        rows = [self._pack.window(n, self._length) for n in self.window_numbers(number, share)]
        examples = [Example(row.tolist(), [1.0] * self._length) for row in rows]
        return _collate(examples, [], self._config)


@dataclass(frozen=True)
class ReadingSettings:
    """How questions are asked.

    Attributes:
        num_passages: Passages of a batch over all processes.
        questions_per_passage: At most so many are asked of each.
        num_references: References read by a question, drawn from this range; those that hold no
            answer come from the passages of the same batch.
        passages_together: Passages that stand one after the other in the files come together, such
            as those of one article; they are the hardest to tell apart.
        attach: Whether references are memories; else they stand as text before the question.
        question_weight: Loss weight of the question's tokens; those of the answer weigh 1.
        reference_weight: Loss weight of references that stand as text.
        no_reference_share: Share of questions with distractors only.
        max_tokens: Questions that are longer with their answer are left out: all of a batch are
            padded to its longest.
    """

    num_passages: int = 8
    questions_per_passage: int = 4
    num_references: tuple[int, int] = (1, 5)
    passages_together: int = 1
    attach: bool = True
    question_weight: float = 0.1
    reference_weight: float = 0.0
    no_reference_share: float = 0.0
    max_tokens: int = 512


class QuestionSource(Source):
    """Questions with the references that answer them among others.

    Args:
        reading: References and questions.
        config: Chunk length and special tokens.
        settings: How they are asked.
        seed: Fixes order and draws.
    """

    def __init__(
        self, reading: ReadingSet, config: ModelConfig, settings: ReadingSettings, *, seed: int
    ) -> None:
        self._reading, self._config, self._settings = reading, config, settings
        self._seed = seed
        self._ids = [reference.ids for reference in reading.references]
        self._asked = [
            [number for number in asked if self._fits(reading.questions[number])]
            for asked in reading.by_passage
        ]
        passages = [n for n, asked in enumerate(self._asked) if asked]
        if not passages:
            raise InvalidArgumentError(
                f"no question is as short as {settings.max_tokens} tokens",
                field="max_tokens",
                remedy="raise it",
            )
        size = settings.passages_together
        self._groups = [passages[at : at + size] for at in range(0, len(passages), size)]

    def batch(self, number: int, share: Share) -> MemoryBatch:
        """See `Source.batch`."""
        drawn = self._drawn(number)
        around = [r for passage in drawn for r in self._reading.passages[passage]]
        examples = []
        for place in share.of(len(drawn)):
            random = Random(f"{self._seed}:{number}:{place}")
            asked = self._asked[drawn[place]]
            chosen = random.sample(asked, min(len(asked), self._settings.questions_per_passage))
            examples += [self._example(self._reading.questions[n], around, random) for n in chosen]
        return _collate(examples, self._ids, self._config)

    def _fits(self, question: AskedQuestion) -> bool:
        return len(question.prompt) + len(question.answer) < self._settings.max_tokens

    def _drawn(self, number: int) -> list[int]:
        """The passages of a batch, whole groups of neighbours."""
        size, count = self._settings.passages_together, len(self._groups)
        per_batch = -(-self._settings.num_passages // size)
        places = range(number * per_batch, (number + 1) * per_batch)
        orders = [draw_order(self._seed, at // count, count) for at in places]
        groups = [
            self._groups[int(order[at % count])] for at, order in zip(places, orders, strict=True)
        ]
        return [passage for group in groups for passage in group][: self._settings.num_passages]

    def _example(self, question: AskedQuestion, around: list[int], random: Random) -> Example:
        read = self._references(question, around, random)
        prompt, before = question.prompt, 0
        if not self._settings.attach:
            texts = [self._reading.references[number].text for number in read]
            prompt = self._reading.encode(prompt_with_passages(texts, question.text))
            before = max(0, len(prompt) - len(question.prompt))
        tokens = [*prompt, *question.answer, self._config.eos_id]
        weights = [self._settings.reference_weight] * before + [self._settings.question_weight] * (
            len(prompt) - before
        )
        weights += [1.0] * (len(question.answer) + 1)
        limit = self._config.context_length - 1  # the end is what matters
        num_chunks = -(-len(tokens) // self._config.memory.chunk_length)
        chunks = [read] * num_chunks if self._settings.attach else ()
        return Example(tokens[-limit:], weights[-limit:], chunks)

    def _references(self, question: AskedQuestion, around: list[int], random: Random) -> list[int]:
        """Gold and others in random order, without repetition."""
        count = random.randint(*self._settings.num_references)
        gold = list(question.gold)
        random.shuffle(gold)
        if random.random() < self._settings.no_reference_share:
            gold = []
        # One gold reference stays, however few are read; its neighbours are the hardest others.
        others = [number for number in around if number not in question.gold]
        read = gold[: max(1, count // 2)]
        read += random.sample(others, min(len(others), max(0, count - len(read))))
        random.shuffle(read)
        return read


class Mixture:
    """Sources by share: which one makes step s is fixed, and each counts its own batches.

    Args:
        sources: By name.
        shares: For each name how often it is drawn, in any unit.
    """

    def __init__(self, sources: Mapping[str, Source], shares: Mapping[str, float]) -> None:
        self._sources = dict(sources)
        total = sum(shares[name] for name in self._sources)
        self._shares = {name: shares[name] / total for name in self._sources}
        self._turns: list[tuple[str, int]] = []
        self._taken = dict.fromkeys(self._sources, 0)

    def turn(self, step: int) -> tuple[str, int]:
        """The source of a step, and the number of its batch: evenly spread, without chance."""
        while len(self._turns) <= step:
            due = len(self._turns) + 1
            name = max(self._taken, key=lambda n: self._shares[n] * due - self._taken[n])
            self._turns.append((name, self._taken[name]))
            self._taken[name] += 1
        return self._turns[step]

    def batch(self, step: int, share: Share) -> tuple[str, MemoryBatch]:
        """The batch of a step, with the name of its source."""
        name, parts = self.parts(step, 1, share)
        return name, parts[0]

    def parts(self, step: int, count: int, share: Share) -> tuple[str, list[MemoryBatch]]:
        """The batches of a step that adds up several of one source, with its name."""
        name, number = self.turn(step)
        source = self._sources[name]
        return name, [source.batch(number * count + part, share) for part in range(count)]


def _collate(
    examples: Sequence[Example], references: Sequence[Sequence[int]], config: ModelConfig
) -> MemoryBatch:
    return collate(
        examples,
        references,
        separator_id=config.separator_id,
        pad_id=config.pad_id,
        chunk_length=config.memory.chunk_length,
    )


@lru_cache(maxsize=8)
def draw_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order in which an epoch reads its examples, [count]."""
    return np.random.default_rng((seed, epoch)).permutation(count)
