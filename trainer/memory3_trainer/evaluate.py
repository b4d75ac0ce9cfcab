"""Accuracy on unseen made-up people in the four conditions, and over selector and tokens kept.

The questions, the people and the search are those of `memory3 demo`; here they run without
services, in batches, with the choice of tokens that inference makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from tokenizers import Tokenizer

from memory3 import plugins
from memory3.embedders.base import Embedder
from memory3.model.transformer import LayerMemory, Transformer
from memory3.people import Phrasing, Question, biography, chance, questions, sample_people
from memory3_trainer.batches import ReadingBatch, pad
from memory3_trainer.reading import attach_references, read_context
from memory3_trainer.soft_selection import selection_bias


@dataclass(frozen=True)
class PeopleExam:
    """Unseen people with biographies, and questions with the references found for them.

    Attributes:
        biographies: One text per person.
        questions: What is asked.
        people: Number of the person of every question.
        retrieved: Numbers of the five biographies nearest to every question.
    """

    biographies: list[str]
    questions: list[Question]
    people: list[int]
    retrieved: list[list[int]]

    @classmethod
    def draw(
        cls,
        embedder: Embedder,
        *,
        seed: int,
        phrasing: Phrasing = "train",
        num_people: int = 500,
        num_questions: int = 500,
    ) -> PeopleExam:
        """People of the evaluation split, and the references an exact search finds.

        Args:
            embedder: Finds the references.
            seed: Of people, texts and questions.
            phrasing: `train` asks as training does, `evaluation` in words never trained on.
            num_people: People, and so references.
            num_questions: Questions.
        """
        rng = Random(seed)
        people = sample_people(rng, num_people, "evaluation")
        biographies = [biography(rng, person) for person in people]
        asked, owners = [], []
        for _ in range(num_questions):
            owner = rng.randrange(num_people)
            owners.append(owner)
            person = people[owner]
            attribute = rng.choice(sorted(person.facts))
            asked += questions(rng, person, [attribute], phrasing=phrasing)
        queries = embedder.embed([question.prompt for question in asked], "query")
        scores = queries @ embedder.embed(biographies, "reference").T
        nearest = np.argsort(-scores, axis=1, kind="stable")[:, :5].tolist()
        return cls(biographies, asked, owners, nearest)

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        return chance(self.questions)

    def recall(self, k: int) -> float:
        """Share of questions whose own biography is among the first k found."""
        pairs = zip(self.people, self.retrieved, strict=True)
        return sum(owner in found[:k] for owner, found in pairs) / len(self.people)

    def references(self, condition: str) -> list[list[int]]:
        """Biographies attached to every question in a condition."""
        if condition == "retrieved":
            return self.retrieved
        if condition == "gold":
            return [[owner] for owner in self.people]
        if condition == "wrong":
            return [[(owner + 1) % len(self.biographies)] for owner in self.people]
        return [[] for _ in self.people]


@torch.inference_mode()
def accuracy(
    model: Transformer,
    tokenizer: Tokenizer,
    exam: PeopleExam,
    condition: str,
    *,
    selector: str,
    tokens_kept: int | None,
    batch_size: int = 50,
) -> float:
    """Share of questions answered exactly by greedy decoding.

    Args:
        model: What answers.
        tokenizer: Its tokenizer.
        exam: Questions, and what is attached to them.
        condition: none, retrieved, gold, wrong (memories) or text (the biography in the prompt).
        selector: Chooses the tokens kept.
        tokens_kept: Per KV head; None keeps all.
        batch_size: Questions of one forward pass.
    """
    right = 0
    references = exam.references(condition)
    for start in range(0, len(exam.questions), batch_size):
        part = range(start, min(start + batch_size, len(exam.questions)))
        prompts = [exam.questions[i].prompt for i in part]
        if condition == "text":
            prompts = [
                f"{exam.biographies[exam.people[i]]}\n{prompt}"
                for i, prompt in zip(part, prompts, strict=True)
            ]
        texts = [exam.biographies[n] for i in part for n in references[i]]
        answers = [exam.questions[i].completion for i in part]
        right += _count_right(model, tokenizer, prompts, answers, texts, selector, tokens_kept)
    return right / len(exam.questions)


def _count_right(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    answers: Sequence[str],
    texts: Sequence[str],
    selector: str,
    tokens_kept: int | None,
) -> int:
    def tokenize(items: Sequence[str]) -> list[list[int]]:
        return [e.ids for e in tokenizer.encode_batch_fast(list(items), add_special_tokens=False)]

    asked, expected = tokenize(prompts), tokenize(answers)
    rows = [
        [model.config.separator_id, *question, *answer]
        for question, answer in zip(asked, expected, strict=True)
    ]
    references = tokenize(texts)
    context = pad(rows)
    memory: list[LayerMemory] = []
    if references:
        batch = ReadingBatch(
            references=pad(references),
            lengths=torch.tensor([len(ids) for ids in references]),
            context=context,
            weights=torch.empty(0),
            answers=torch.empty(0),
            segments=torch.zeros_like(context),
            attach=True,
        )
        chosen = plugins.load("selectors", selector)()
        memory = attach_references(
            model,
            batch,
            chosen,
            lambda scores, valid: selection_bias(
                scores, valid, count=tokens_kept or scores.shape[-1], temperature=1.0, hard=True
            ),
        )
    best = model.logits(read_context(model, context, torch.zeros_like(context), memory)).argmax(-1)
    return sum(
        # Predicting every token of the answer from the ones before is what greedy decoding does.
        best[row, len(question) : len(question) + len(answer)].tolist() == answer
        for row, (question, answer) in enumerate(zip(asked, expected, strict=True))
    )
