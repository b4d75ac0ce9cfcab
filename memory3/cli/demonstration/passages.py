"""Questions about real passages: the texts beside this file, and what was answered.

A model may have read of these things elsewhere, so the condition without memories shows what it
knows already, and no score decides whether the demonstration passed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from memory3.cli.demonstration.asking import RECALL_AT, Asker, Example, Request
from memory3.data.prompts import question_prompt
from memory3.data.qa import QuestionSet, read_named
from memory3.evaluation.scoring import best, exact_match, f1
from memory3.sdk.answers import Answer
from memory3.sdk.references import Document

PassageCondition = Literal["none", "retrieved", "gold"]
PASSAGE_CONDITIONS: Final[tuple[PassageCondition, ...]] = ("none", "retrieved", "gold")


@dataclass(frozen=True, slots=True)
class Reading:
    """How the questions about real passages went.

    Attributes:
        asked: The passages and questions.
        answers: By condition, in the order of the questions.
        recall: The share of questions whose passage is among the first five references found.
        examples: Some answers with the report of what was read.
    """

    asked: QuestionSet
    answers: Mapping[PassageCondition, Sequence[Answer]]
    recall: float
    examples: tuple[Example, ...] = ()

    def exact_match(self, condition: PassageCondition) -> float:
        """The share of answers that are right once normalised."""
        return self._mean(exact_match, condition)

    def f1(self, condition: PassageCondition) -> float:
        """The mean F1 over words, 0 to 1."""
        return self._mean(f1, condition)

    def to_json(self) -> dict[str, Any]:
        """The part of the findings that is about real passages."""
        return {
            "num_passages": len(self.asked.passages),
            "num_questions": len(self.asked.questions),
            f"recall_at_{RECALL_AT}": self.recall,
            "scores": {
                name: {"em": self.exact_match(name), "f1": self.f1(name)}
                for name in PASSAGE_CONDITIONS
            },
        }

    def _mean(self, measure: Callable[[str, str], float], condition: PassageCondition) -> float:
        pairs = zip(self.asked.questions, self.answers[condition], strict=True)
        scores = [best(measure, answer.text, question.answers) for question, answer in pairs]
        return sum(scores) / len(scores)


def read_passages() -> QuestionSet:
    """The passages and questions that come with the package."""
    return read_named(Path(__file__).with_name("world"))


def passage_documents(asked: QuestionSet) -> list[Document]:
    """The passages as they are added to a bank, in their order."""
    return [
        Document(passage.text, source=f"world/{passage.title}", title=passage.title)
        for passage in asked.passages.values()
    ]


def read_and_answer(
    asker: Asker, asked: QuestionSet, reference_ids: Sequence[Sequence[str]], num_examples: int
) -> Reading:
    """Ask about the passages without memory, with those found, and with the passage's own.

    Args:
        asker: Asks running services.
        asked: The passages and questions.
        reference_ids: For each passage its references.
        num_examples: How many answers to show, taken from all over the set.

    Raises:
        Memory3Error: A request failed, or went on without its memories.
    """
    ids_of = dict(zip(asked.passages, reference_ids, strict=True))
    gold = [ids_of[question.passage_id] for question in asked.questions]
    prompts = [question_prompt(question.question) for question in asked.questions]
    requests: dict[PassageCondition, list[Request]] = {
        "none": [Request(prompt) for prompt in prompts],
        "retrieved": [Request(prompt, from_bank=True) for prompt in prompts],
        "gold": [Request(prompt, True, ids) for prompt, ids in zip(prompts, gold, strict=True)],
    }
    examples = []
    for question in asked.questions[:: len(prompts) // num_examples][:num_examples]:
        answer = asker.explain(question_prompt(question.question))
        is_right = bool(best(exact_match, answer.text, question.answers))
        examples.append(Example(question.question, question.answers[0], is_right, answer))
    return Reading(
        asked,
        {name: asker.ask_all(requests[name]) for name in PASSAGE_CONDITIONS},
        asker.recall(prompts, gold),
        tuple(examples),
    )
