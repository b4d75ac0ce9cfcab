"""Batches for learning to read: references, and contexts whose answers stand in them.

One batch serves both stages of the paper (§7): in the first the references are text in the
context, in the second they are attached as memories. Each reference is encoded once and shared
by all questions of its sequence.
Shapes: B sequences, R references of a sequence, U = B·R, N tokens of a reference, T of a context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import IterableDataset

from memory3.people import ATTRIBUTES, Person, biography, questions, sample_people
from memory3_trainer.data.people import full_name_biography, pairs, statement


@dataclass
class ReadingBatch:
    """Sequences that ask about their references.

    Attributes:
        references: Token ids [U, N], padded; the R of sequence b are rows b·R to b·R + R - 1.
        lengths: Their lengths [U].
        context: Token ids [B, T]: separator, (stage one: references,) questions and answers.
        weights: Loss weight [B, T] of predicting context[b, t] from what stands before it.
        answers: Bool [B, T], true where context[b, t] is the first token of an answer.
        segments: [B, T], 0 for what all questions of a sequence share, else the number of the
            question; questions do not see one another, as if each were asked alone.
        attach: Whether the references are memories (stage two) or stand in the context.
    """

    references: Tensor
    lengths: Tensor
    context: Tensor
    weights: Tensor
    answers: Tensor
    segments: Tensor
    attach: bool


@dataclass(frozen=True)
class ReadingTask:
    """How hard the reading is.

    Attributes:
        num_references: References of a sequence, drawn from this range (both ends included).
        num_facts: Facts of a biography, drawn from this range.
        num_questions: Questions of a sequence.
        related: Share of people who share a name with another of the sequence.
        text_share: Share of batches with the references as text in the context.
        filler_share: Share of references after the first that are unrelated text.
        statement_share: Share of what is asked that is a sentence to be completed, not a question:
            "Ada Brook was born in". There the name stands as near the gap as it stands near the
            fact in a biography, so one circuit serves writer and reader and is found sooner.
        full_name_share: Share of biographies that name the person in every sentence, likewise.
        pair_share: Share of batches whose references are a name and a value, nothing else, which
            is completed after the name: the shortest form of looking up by name, learnt first.
        num_pairs: References of a sequence in such a batch.
        other_weight: Loss weight of a token that is no answer; an answer's tokens weigh 1.
    """

    num_references: tuple[int, int]
    num_facts: tuple[int, int] = (8, 8)
    num_questions: int = 10
    related: float = 0.3
    text_share: float = 1.0
    filler_share: float = 0.0
    statement_share: float = 0.0
    full_name_share: float = 0.0
    pair_share: float = 0.0
    num_pairs: tuple[int, int] = (2, 8)
    other_weight: float = 0.1


@dataclass
class _Context:
    """One row of a batch while it is put together."""

    ids: list[int]
    weights: list[float]
    answers: list[bool]
    segments: list[int]

    def add(self, ids: list[int], *, weight: float, segment: int, is_answer: bool = False) -> None:
        self.ids += ids
        self.weights += [weight] * len(ids)
        self.answers += [is_answer and place == 0 for place in range(len(ids))]
        self.segments += [segment] * len(ids)


class ReadingBatches(IterableDataset[ReadingBatch]):
    """An endless stream of batches about people of the training split, the same for the same seed.

    Args:
        task: From the number of a batch to its difficulty.
        filler: Unrelated texts.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        task: Callable[[int], ReadingTask],
        *,
        batch_size: int,
        seed: int,
        separator_id: int,
        filler: tuple[str, ...] = (),
        reference_length: int = 128,
    ) -> None:
        self.tokenizer, self.task = tokenizer, task
        self.batch_size, self.seed, self.separator_id = batch_size, seed, separator_id
        self.filler, self.reference_length = filler, reference_length

    def __iter__(self) -> Iterator[ReadingBatch]:
        rng = Random(self.seed)
        for step in count():
            yield self.draw(rng, self.task(step))

    def draw(self, rng: Random, task: ReadingTask) -> ReadingBatch:
        """One batch; every sequence has the same number of references, so nothing is wasted."""
        attach = rng.random() >= task.text_share
        if rng.random() < task.pair_share:
            num_references = rng.randint(*task.num_pairs)
            rows = [_pairs(rng, num_references, task) for _ in range(self.batch_size)]
        else:
            num_references = rng.randint(*task.num_references)
            rows = [self._sequence(rng, num_references, task) for _ in range(self.batch_size)]
        references = self._tokenize([text for texts, _ in rows for text in texts])
        references = [ids[: self.reference_length] for ids in references]
        pieces = self._tokenize([piece for _, asked in rows for pair in asked for piece in pair])
        contexts, position = [], 0
        for row, (_, asked) in enumerate(rows):
            own = references[row * num_references : (row + 1) * num_references]
            pairs = pieces[position : position + 2 * len(asked)]
            position += 2 * len(asked)
            contexts.append(self._context([] if attach else own, pairs, task.other_weight))
        return ReadingBatch(
            references=pad(references),
            lengths=torch.tensor([len(ids) for ids in references]),
            context=pad([row.ids for row in contexts]),
            weights=pad([row.weights for row in contexts], torch.float32),
            answers=pad([row.answers for row in contexts], torch.bool),
            segments=pad([row.segments for row in contexts]),
            attach=attach,
        )

    def _sequence(
        self, rng: Random, num_references: int, task: ReadingTask
    ) -> tuple[list[str], list[tuple[str, str]]]:
        people = sample_people(rng, num_references, "train", related=task.related)
        # All people of a sequence state the same attributes, so that only the name tells whose
        # fact is asked for.
        kept = rng.sample(sorted(ATTRIBUTES), rng.randint(*task.num_facts))
        texts: list[str] = []
        asked: list[tuple[str, str]] = []
        for place, person in enumerate(people):
            if place and self.filler and rng.random() < task.filler_share:
                texts.append(rng.choice(self.filler))
                continue
            person = Person(
                person.name, person.first, person.last, person.pronoun,
                {name: person.facts[name] for name in kept},
            )  # fmt: skip
            if rng.random() < task.full_name_share:
                texts.append(full_name_biography(rng, person))
            else:
                texts.append(biography(rng, person))
            for question in questions(rng, person, kept):
                if rng.random() < task.statement_share:
                    begun, rest = statement(rng, person, question.attribute)
                    asked.append((begun, rest + "\n"))
                else:
                    asked.append((question.prompt, question.completion))
        order = list(range(len(texts)))
        rng.shuffle(order)
        rng.shuffle(asked)
        return [texts[i] for i in order], asked[: task.num_questions]

    def _context(
        self, references: list[list[int]], pairs: list[list[int]], other: float
    ) -> _Context:
        row = _Context([], [], [], [])
        row.add([self.separator_id], weight=0.0, segment=0)
        for reference in references:
            row.add([*reference, *self._newline], weight=other, segment=0)
        for number, (asked, answer) in enumerate(zip(pairs[::2], pairs[1::2], strict=True), 1):
            row.add(asked, weight=other, segment=number)
            row.add(answer, weight=1.0, segment=number, is_answer=True)
        return row

    @property
    def _newline(self) -> list[int]:
        return self._tokenize(["\n"])[0]

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        encoded = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [item.ids for item in encoded]


def _pairs(rng: Random, count: int, task: ReadingTask) -> tuple[list[str], list[tuple[str, str]]]:
    made = pairs(rng, sample_people(rng, count, "train", related=task.related))
    texts = [text for text, _ in made]
    asked = [(begun, rest + "\n") for _, (begun, rest) in made]
    rng.shuffle(texts)
    rng.shuffle(asked)
    return texts, asked


def pad(rows: Sequence[Sequence[float]], dtype: torch.dtype = torch.int64) -> Tensor:
    """Rows of different lengths as one tensor, zero on the right."""
    width = max(len(row) for row in rows)
    # Few different widths keep the allocator and the kernels on well-trodden paths.
    width += -width % 8
    padded = torch.zeros(len(rows), width, dtype=dtype)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = torch.tensor(row, dtype=dtype)
    return padded
