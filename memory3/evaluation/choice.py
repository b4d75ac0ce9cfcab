"""Multiple choice by likelihood, for knowledge tests and hallucination sets.

    accuracy             the likeliest choice is right (TruthfulQA MC1)
    accuracy_normalised  the same, log-probabilities divided by the characters of the choice
    mc2                  probability of the right choices among all (TruthfulQA MC2)

The question alone is the query of the search: no choice finds memories of its own (paper §7).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from memory3.data.choices import ChoiceQuestion
from memory3.data.progress import Progress, silent
from memory3.data.prompts import answer_text
from memory3.errors import InvalidArgumentError
from memory3.evaluation.bank import Bank
from memory3.evaluation.conditions import SEARCHING, Asked, Readings
from memory3.evaluation.likelihood import Continuation, Likelihood
from memory3.evaluation.memories import MemoryStore
from memory3.evaluation.prompts import PromptMaker, question_template
from memory3.evaluation.subject import Subject


@dataclass(frozen=True)
class ChoiceScore:
    """A condition's result: shares from 0 to 1 over n questions."""

    accuracy: float
    accuracy_normalised: float
    mc2: float
    n: int

    def to_json(self) -> dict[str, Any]:
        """The form that is printed."""
        return asdict(self)


@dataclass(frozen=True)
class ChoiceSettings:
    """How choices are scored; as `QaSettings`."""

    num_references: int | None = None
    template: str | None = None
    index: str = "exact"
    seed: int = 0


def evaluate_choice(
    subject: Subject,
    bank: Bank,
    questions: Sequence[ChoiceQuestion],
    conditions: Sequence[str],
    settings: ChoiceSettings,
    progress: Progress = silent,
) -> tuple[dict[str, ChoiceScore], dict[str, Any]]:
    """Score every choice of every question in every condition.

    Args:
        subject: What scores.
        bank: References; empty where only `none` is asked for.
        questions: At least one.
        conditions: Names.
        settings: How.
        progress: Told how far it is.

    Returns:
        Scores by condition, and everything they depend on.

    Raises:
        InvalidArgumentError: A condition needs passages that are not there.
    """
    _check(bank, questions, conditions)
    memory = subject.config.memory
    most = settings.num_references
    most = memory.references_per_chunk if most is None else most
    template = question_template(settings.template, subject.checkpoint.manifest.provenance)
    texts = [question.question for question in questions]
    searching = bank if any(name in SEARCHING for name in conditions) else None
    found = (
        searching.search(texts, most, subject.embedder, index=settings.index, progress=progress)
        if searching is not None
        else [[] for _ in texts]
    )
    readings = Readings(bank, num_references=most, seed=settings.seed)
    store = MemoryStore(subject, lambda n: subject.encode(bank.references[n].text))
    likelihood = Likelihood(subject, store, num_references=most)
    scores, num_shortened = {}, 0
    for condition in conditions:
        continuations: list[Continuation] = []
        for question, numbers in zip(questions, found, strict=True):
            right = tuple(question.choices[number] for number in question.right)
            asked = Asked(question.id, question.passage, right, tuple(numbers))
            choices = [tuple(subject.encode(answer_text(c))) for c in question.choices]
            maker = PromptMaker(subject, template, max_tokens=max(map(len, choices)))
            reading = readings.of(condition, asked)
            if reading.as_text:
                held = [bank.references[n].text for n in reading.references]
                prompt = maker.with_texts(question.question, held)
            else:
                prompt = maker.plain(question.question, reading.references)
            num_shortened += maker.num_shortened
            continuations += [Continuation(prompt, tokens) for tokens in choices]
        totals = [math.fsum(item) for item in likelihood.logprobs(continuations, progress)]
        scores[condition] = _score(questions, totals)
    return scores, {
        "checkpoint": subject.checkpoint.path.name,
        "checkpoint_digest": subject.checkpoint.digest,
        "codec": subject.codec.name,
        "selector": memory.selector,
        "tokens_kept": memory.tokens_kept,
        "num_references": most,
        "embedder": subject.embedder.name,
        "template": template,
        "seed": settings.seed,
        "num_bank_references": len(bank.references),
        "num_questions": len(questions),
        "num_shortened_prompts": num_shortened,
    }


def _check(bank: Bank, questions: Sequence[ChoiceQuestion], conditions: Sequence[str]) -> None:
    reading = [name for name in conditions if name != "none"]
    if reading and not bank.references:
        raise InvalidArgumentError(
            f"the condition {reading[0]} needs passages",
            field="passages",
            remedy="give --passages, or ask for the condition none only",
        )
    gold = [name for name in conditions if name.startswith("gold")]
    lost = [question.id for question in questions if not question.passage]
    if gold and lost:
        raise InvalidArgumentError(
            f"question {lost[0]!r} names no passage, which {gold[0]} reads",
            field="passage_id",
            remedy="add passage_id to every question, or leave the condition out",
        )


def _score(questions: Sequence[ChoiceQuestion], totals: Sequence[float]) -> ChoiceScore:
    plain = normalised = mass = 0.0
    start = 0
    for question in questions:
        own = totals[start : start + len(question.choices)]
        start += len(own)
        lengths = [len(choice) for choice in question.choices]
        plain += _best(own) in question.right
        normalised += _best([x / n for x, n in zip(own, lengths, strict=True)]) in question.right
        highest = max(own)
        chances = [math.exp(value - highest) for value in own]
        mass += sum(chances[number] for number in question.right) / sum(chances)
    count = len(questions)
    return ChoiceScore(plain / count, normalised / count, mass / count, count)


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda place: values[place])
