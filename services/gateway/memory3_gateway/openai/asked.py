"""What a body asks for, as arguments of the SDK: the same for completions and chats."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any, Final

from memory3.aio_client import AsyncClient
from memory3.errors import InvalidArgumentError
from memory3.sdk.options import GenerateOptions
from memory3_gateway.models import Model
from memory3_gateway.openai.bodies import Memory, Sampling

_SAMPLING: Final = (
    "max_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty",
    "presence_penalty", "frequency_penalty", "seed", "stop", "stop_token_ids", "n", "ignore_eos",
)  # fmt: skip
# The encoder reads so much of a question at least; a search needs no more.
_MAX_QUERY_CHARACTERS: Final = 2000


@dataclass(frozen=True)
class Asked:
    """One generation to be made.

    Attributes:
        prompt: The text to continue.
        bank: The bank to read; empty for none.
        options: Sampling and use of memories.
    """

    prompt: str
    bank: str
    options: GenerateOptions


@dataclass(frozen=True)
class Envelope:
    """What every object of one answer carries: its id, kind, time and model."""

    id: str
    object: str
    created: int
    model: str

    @classmethod
    def new(cls, prefix: str, kind: str, model: str) -> Envelope:
        """An envelope with an id that no other answer has."""
        return cls(f"{prefix}-{uuid.uuid4().hex}", kind, int(time.time()), model)

    def around(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """The object with these choices."""
        return {
            "id": self.id,
            "object": self.object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
            **more,
        }


async def asked(
    client: AsyncClient, body: Sampling, model: Model, prompt: str, question: str, timeout_s: float
) -> Asked:
    """What is asked of the decoder.

    Args:
        client: Of the services; searches where the body has a filter.
        body: The body.
        model: What its ``model`` stands for.
        prompt: The text to continue.
        question: What to search for where the body has a filter.
        timeout_s: The most seconds for the whole answer.

    Raises:
        InvalidArgumentError: The filter cannot be obeyed.
    """
    options: Any = {"timeout": timeout_s}
    for name in _SAMPLING:
        value = getattr(body, name)
        if value is not None:
            options[name] = value
    if body.logit_bias:
        options["logit_bias"] = {_token(key): value for key, value in body.logit_bias.items()}
    memory = body.memory3
    bank = model.bank if memory.bank is None else memory.bank
    options["strict"], options["with_references"] = memory.strict, memory.with_references
    options["report"] = memory.report and bool(bank)
    for name in ("num_references", "reference_ids", "retrieval_timeout"):
        value = getattr(memory, name)
        if value is not None:
            options[name] = value
    if memory.filter:
        found = await _filtered(client, memory, model, bank, question)
        # No ids at all would mean an ordinary search, without the filter.
        options |= {"reference_ids": found} if found else {"num_references": 0}
    return Asked(prompt, bank, options)


async def _filtered(
    client: AsyncClient, memory: Memory, model: Model, bank: str, question: str
) -> list[str]:
    if not bank or memory.reference_ids is not None:
        raise InvalidArgumentError(
            "a filter restricts what is found in a bank",
            field="memory3.filter",
            remedy="name a bank, and no reference_ids",
        )
    most = model.info.checkpoint.memory_layout.references_per_chunk
    wanted = most if memory.num_references is None else min(most, memory.num_references)
    if wanted < 1:
        return []
    hits = await client.search(
        bank, question[-_MAX_QUERY_CHARACTERS:], k=wanted, where=memory.filter or ()
    )
    return [hit.reference.id for hit in hits]


def _token(key: str) -> int:
    try:
        return int(key)
    except ValueError as error:
        raise InvalidArgumentError(
            f"{key[:40]!r} is not the id of a token",
            field="logit_bias",
            remedy="use ids of this checkpoint's tokens, as texts of digits",
        ) from error
