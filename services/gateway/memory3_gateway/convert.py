"""Answers of the SDK as the JSON objects of OpenAI's interface.

What memory3 adds stands under the key ``memory3``, which OpenAI's clients hand on untouched. It
must not know requests or HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from memory3.sdk.answers import AttachedReference, ChunkMemories, Finish, TokenLogprob, Usage
from memory3.sdk.banks import Bank, CheckpointInfo
from memory3.sdk.references import Reference

TokenTexts = Mapping[int, str]
"""The text of each token that is spoken of."""


def model(checkpoint: CheckpointInfo, id_: str, bank: str = "") -> dict[str, Any]:
    """An entry of the list of models."""
    return {
        "id": id_,
        "object": "model",
        "created": 0,
        "owned_by": "memory3",
        "memory3": {
            "digest": checkpoint.digest,
            "checkpoint": checkpoint.name,
            "num_parameters": checkpoint.num_parameters,
            "bank": bank or None,
        },
    }


def usage(choices: Sequence[Usage]) -> dict[str, int]:
    """Tokens of all choices of one prompt together; the prompt counts once."""
    prompt = max((each.prompt_tokens for each in choices), default=0)
    completion = sum(each.completion_tokens for each in choices)
    return usage_object(prompt, completion)


def usage_object(prompt: int, completion: int) -> dict[str, int]:
    """OpenAI's count of tokens."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def memories(finish: Finish, spans: Mapping[int, tuple[int, int]]) -> dict[str, Any]:
    """What one choice read.

    Args:
        finish: The end of the choice.
        spans: For each chunk the characters of the choice's text that lie in it.
    """
    counted = finish.usage
    return {
        "degraded": finish.degraded,
        "degraded_reason": finish.degraded_reason,
        "stop": finish.stop,
        "chunks": [chunk(each, spans.get(each.chunk)) for each in finish.chunks],
        "memories_attached": counted.memories_attached,
        "retrievals": counted.retrievals,
        "time_to_first_token": counted.time_to_first_token,
        "total_time": counted.total_time,
    }


def chunk(attached: ChunkMemories, span: tuple[int, int] | None = None) -> dict[str, Any]:
    """One chunk with its references; ``text_start`` and ``text_end`` count code points."""
    found: dict[str, Any] = {"chunk": attached.chunk, "start_token": attached.start_token}
    if span is not None:
        found["text_start"], found["text_end"] = span
    found["references"] = [_attached(each) for each in attached.references]
    return found


def _attached(attached: AttachedReference) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": attached.id,
        "score": attached.score,
        "attention_mass": attached.attention_mass,
    }
    if attached.reference is not None:
        found["reference"] = reference(attached.reference)
    return found


def reference(given: Reference) -> dict[str, Any]:
    """A reference as the page and the answers show it."""
    return {
        "id": given.id,
        "text": given.text,
        "source": given.source,
        "title": given.title,
        "heading": given.heading,
        "num_tokens": given.num_tokens,
        "metadata": dict(given.metadata),
        "create_time": _time(given.create_time),
        "expire_time": _time(given.expire_time),
    }


def bank(given: Bank) -> dict[str, Any]:
    """A bank with its counts."""
    found = asdict(given)
    found["create_time"] = _time(given.create_time)
    return found


def completion_logprobs(
    tokens: Sequence[TokenLogprob], texts: TokenTexts, offset: int
) -> dict[str, Any]:
    """Log-probabilities in the shape of ``/v1/completions``.

    Args:
        tokens: The tokens.
        texts: Their texts.
        offset: Where the first of them begins in the choice's text.
    """
    words = [texts[each.token_id] for each in tokens]
    offsets = []
    for word in words:
        offsets.append(offset)
        offset += len(word)
    return {
        "tokens": words,
        "token_logprobs": [each.logprob for each in tokens],
        "top_logprobs": [{texts[t.token_id]: t.logprob for t in each.top} for each in tokens],
        "text_offset": offsets,
    }


def chat_logprobs(tokens: Sequence[TokenLogprob], texts: TokenTexts) -> dict[str, Any]:
    """Log-probabilities in the shape of ``/v1/chat/completions``."""

    def one(token: TokenLogprob) -> dict[str, Any]:
        text = texts[token.token_id]
        return {"token": text, "logprob": token.logprob, "bytes": list(text.encode())}

    content = [{**one(each), "top_logprobs": [one(top) for top in each.top]} for each in tokens]
    return {"content": content, "refusal": None}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
