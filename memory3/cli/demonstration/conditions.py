"""Sits the exam about people in the four conditions, and keeps the times."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from memory3.cli.demonstration.asking import Asker, Example, Request
from memory3.cli.demonstration.exam import Exam, Item
from memory3.sdk.answers import Answer

Condition = Literal["none", "retrieved", "text", "wrong"]
CONDITIONS: Final[tuple[Condition, ...]] = ("none", "retrieved", "text", "wrong")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the exam went in one condition.

    Attributes:
        answers: In the order of the questions.
        num_right: Answers that are the expected word, blanks at both ends aside.
        seconds: Wall time of all answers together.
    """

    answers: tuple[Answer, ...]
    num_right: int
    seconds: float

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return self.num_right / len(self.answers)

    @property
    def times_to_first_token(self) -> list[float]:
        """Seconds from a request's arrival to its first token, as the decoder measured."""
        return [answer.usage.time_to_first_token for answer in self.answers]

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens of all requests together, by wall time."""
        return sum(answer.usage.completion_tokens for answer in self.answers) / self.seconds


class Sitting:
    """One run of the exam against running services.

    Args:
        asker: Asks them.
        exam: The questions.
        reference_ids: For each person, the references of the biography.
    """

    def __init__(self, asker: Asker, exam: Exam, reference_ids: Sequence[Sequence[str]]) -> None:
        self._asker = asker
        self._exam = exam
        self._reference_ids = reference_ids

    def sit(self, condition: Condition) -> Outcome:
        """Answer all questions in one condition.

        Raises:
            Memory3Error: A request failed, or went on without its memories.
        """
        items = self._exam.items
        requests = [self._request(condition, item) for item in items]
        start = time.perf_counter()
        answers = self._asker.ask_all(requests)
        seconds = time.perf_counter() - start
        num_right = sum(is_right(item, answer) for item, answer in zip(items, answers, strict=True))
        return Outcome(answers, num_right, seconds)

    def recall(self) -> float:
        """The share of questions whose biography is among the first five references found."""
        items = self._exam.items
        return self._asker.recall(
            [item.prompt for item in items], [self._reference_ids[item.person] for item in items]
        )

    def examples(self, count: int) -> tuple[Example, ...]:
        """The first questions, answered from the bank with the report of what was read."""
        return tuple(self._example(item) for item in self._exam.items[:count])

    def _example(self, item: Item) -> Example:
        answer = self._asker.explain(item.prompt)
        return Example(item.question.text, item.question.answer, is_right(item, answer), answer)

    def _request(self, condition: Condition, item: Item) -> Request:
        match condition:
            case "none":
                return Request(item.prompt)
            case "retrieved":
                return Request(item.prompt, from_bank=True)
            case "text":
                return Request(item.prompt_with_text)
            case "wrong":
                return Request(item.prompt, True, self._reference_ids[item.other])


def is_right(item: Item, answer: Answer) -> bool:
    """Whether an answer is exactly the expected word."""
    return answer.text.strip() == item.question.answer
