"""Asks over gRPC like any client, several requests at a time.

It must not know what is asked about, or which answers are right.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from memory3.client import Client
from memory3.sdk.answers import Answer
from memory3.sdk.options import GenerateOptions

# A fact is a few words; the rest is room for a model that does not stop by itself.
_MAX_TOKENS: Final = 16
# Strict fails where memories are late, and a busy machine may be slow; this is no test of speed.
_RETRIEVAL_TIMEOUT_S: Final = 30.0
_QUERIES_PER_SEARCH: Final = 100
RECALL_AT: Final = 5


@dataclass(frozen=True, slots=True)
class Request:
    """What the model is given.

    Attributes:
        prompt: The text to go on from.
        from_bank: Whether memories of the bank are attached.
        reference_ids: These instead of those that a search finds, if there are any.
    """

    prompt: str
    from_bank: bool = False
    reference_ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """An answer with the report of what it was read from, to be shown.

    Attributes:
        question: As people ask it.
        expected: The right answer.
        is_right: Whether it was given.
        answer: What was given.
    """

    question: str
    expected: str
    is_right: bool
    answer: Answer


class Asker:
    """Asks running services.

    Args:
        client: Talks to them.
        bank: The bank with the texts.
        concurrency: Requests in flight.
    """

    def __init__(self, client: Client, bank: str, concurrency: int) -> None:
        self._client = client
        self._bank = bank
        self._concurrency = concurrency

    def ask_all(self, requests: Sequence[Request]) -> tuple[Answer, ...]:
        """The answers in the order of the requests.

        Raises:
            Memory3Error: A request failed, or went on without its memories.
        """
        with ThreadPoolExecutor(self._concurrency) as pool:
            return tuple(pool.map(self._ask, requests))

    def explain(self, prompt: str) -> Answer:
        """Answer one prompt from the bank, with the report of what was read."""
        request = Request(prompt, from_bank=True)
        return self._ask(request, {"report": True, "with_references": True})

    def recall(self, prompts: Sequence[str], gold: Sequence[Sequence[str]]) -> float:
        """The share of prompts with one of its own references among the first five found.

        Args:
            prompts: What is searched for, at least one.
            gold: For each prompt the ids of its references.
        """
        found = 0
        for start in range(0, len(prompts), _QUERIES_PER_SEARCH):
            part = slice(start, start + _QUERIES_PER_SEARCH)
            results = self._client.search_many(self._bank, prompts[part], k=RECALL_AT)
            for ids, hits in zip(gold[part], results, strict=True):
                found += any(hit.reference.id in ids for hit in hits)
        return found / len(prompts)

    def _ask(self, request: Request, options: GenerateOptions | None = None) -> Answer:
        chosen: GenerateOptions = {"max_tokens": _MAX_TOKENS, "stop": "\n"}
        if request.from_bank:
            # Strict: an exam without the memories it is about would measure something else.
            chosen["strict"] = True
            chosen["retrieval_timeout"] = _RETRIEVAL_TIMEOUT_S
        if request.reference_ids:
            chosen["reference_ids"] = request.reference_ids
        chosen.update(options or {})
        bank = self._bank if request.from_bank else ""
        return self._client.generate(request.prompt, bank, **chosen)
