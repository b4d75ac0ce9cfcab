"""Sits the exam in the four conditions, through gRPC like any client, and keeps the times."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Literal

from memory3.cli.demonstration.exam import Exam, Item
from memory3.client import Client
from memory3.sdk.answers import Answer
from memory3.sdk.options import GenerateOptions

Condition = Literal["none", "retrieved", "text", "wrong"]
CONDITIONS: Final[tuple[Condition, ...]] = ("none", "retrieved", "text", "wrong")

# A fact is one word; the rest is room for a model that does not stop by itself.
_MAX_TOKENS: Final = 16
# Strict fails where memories are late, and a busy machine may be slow; this is no test of speed.
_RETRIEVAL_TIMEOUT_S: Final = 30.0
_QUERIES_PER_SEARCH: Final = 100
RECALL_AT: Final = 5


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
        client: Talks to them.
        bank: The bank with the biographies.
        exam: The questions.
        reference_ids: For each person, the references of the biography.
        concurrency: Requests in flight.
    """

    def __init__(
        self,
        client: Client,
        bank: str,
        exam: Exam,
        reference_ids: Sequence[Sequence[str]],
        concurrency: int,
    ) -> None:
        self._client = client
        self._bank = bank
        self._exam = exam
        self._reference_ids = reference_ids
        self._concurrency = concurrency

    def sit(self, condition: Condition) -> Outcome:
        """Answer all questions in one condition.

        Raises:
            Memory3Error: A request failed, or went on without its memories.
        """
        ask: Callable[[Item], Answer] = {
            "none": self._ask_alone,
            "retrieved": self._ask_bank,
            "text": self._ask_with_text,
            "wrong": self._ask_with_wrong_memory,
        }[condition]
        items = self._exam.items
        start = time.perf_counter()
        with ThreadPoolExecutor(self._concurrency) as pool:
            answers = tuple(pool.map(ask, items))
        seconds = time.perf_counter() - start
        num_right = sum(is_right(item, answer) for item, answer in zip(items, answers, strict=True))
        return Outcome(answers, num_right, seconds)

    def recall(self) -> float:
        """The share of questions whose biography is among the first five references found."""
        found = 0
        items = self._exam.items
        for start in range(0, len(items), _QUERIES_PER_SEARCH):
            part = items[start : start + _QUERIES_PER_SEARCH]
            prompts = [item.prompt for item in part]
            results = self._client.search_many(self._bank, prompts, k=RECALL_AT)
            for item, hits in zip(part, results, strict=True):
                gold = set(self._reference_ids[item.person])
                found += any(hit.reference.id in gold for hit in hits)
        return found / len(items)

    def explain(self, item: Item) -> Answer:
        """Answer one question with the report of what was read."""
        return self._generate(item.prompt, self._bank, {"report": True, "with_references": True})

    def _ask_alone(self, item: Item) -> Answer:
        return self._generate(item.prompt, "", {})

    def _ask_bank(self, item: Item) -> Answer:
        return self._generate(item.prompt, self._bank, {})

    def _ask_with_text(self, item: Item) -> Answer:
        return self._generate(item.prompt_with_text, "", {})

    def _ask_with_wrong_memory(self, item: Item) -> Answer:
        ids = self._reference_ids[item.other]
        return self._generate(item.prompt, self._bank, {"reference_ids": ids})

    def _generate(self, prompt: str, bank: str, options: GenerateOptions) -> Answer:
        # Strict: an exam without the memories it is about would measure something else.
        chosen: GenerateOptions = {"max_tokens": _MAX_TOKENS, "stop": "\n"}
        if bank:
            chosen["strict"] = True
            chosen["retrieval_timeout"] = _RETRIEVAL_TIMEOUT_S
        chosen.update(options)
        return self._client.generate(prompt, bank, **chosen)


def is_right(item: Item, answer: Answer) -> bool:
    """Whether an answer is exactly the expected word."""
    return answer.text.strip() == item.question.answer
