"""Every call to the decoder and the encoder, as a function of its arguments.

The docstrings and signatures here are those of ``Client`` and ``AsyncClient``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, Unpack

from memory3.errors import InvalidArgumentError
from memory3.sdk import convert, folds
from memory3.sdk.answers import Answer, Event, Scores
from memory3.sdk.banks import DecoderInfo, EncoderInfo
from memory3.sdk.call import Endpoint, Events, Folded, Unary
from memory3.sdk.options import (
    GenerateOptions,
    MemoryOptions,
    check_names,
    memory_message,
    sampling_message,
)
from memory3.v1 import decoder_pb2, encoder_pb2

_QUICK_S: Final = 30.0
_GENERATE_S: Final = 300.0

_KINDS: Final = {
    "query": encoder_pb2.TEXT_KIND_QUERY,
    "reference": encoder_pb2.TEXT_KIND_REFERENCE,
}


def _decoder(method: str, timeout: float = _QUICK_S) -> Endpoint:
    return Endpoint("decoder", method, timeout)


def generate(prompt: str, bank: str = "", **options: Unpack[GenerateOptions]) -> Folded[Answer]:
    """Continue a prompt and wait for the whole text.

    Args:
        prompt: The text to continue.
        bank: The bank to read while generating; empty for no memories.
        options: Sampling, use of memories and ``timeout``: see ``GenerateOptions``.

    Returns:
        The text with the references it was read from, token counts and times.
    """
    return Folded(
        endpoint=_decoder("Generate", _GENERATE_S),
        request=_generate_request(prompt, bank, options),
        new_fold=folds.AnswerFold,
        timeout=options.get("timeout"),
    )


def stream(prompt: str, bank: str = "", **options: Unpack[GenerateOptions]) -> Events[Event]:
    """Continue a prompt and yield the events as they come: text, references, ends of choices.

    Leaving the loop early cancels the call and frees its slots.

    Args:
        prompt: The text to continue.
        bank: The bank to read while generating; empty for no memories.
        options: Sampling, use of memories and ``timeout``: see ``GenerateOptions``.
    """
    return Events(
        endpoint=_decoder("Generate", _GENERATE_S),
        request=_generate_request(prompt, bank, options),
        convert=folds.event,
        timeout=options.get("timeout"),
    )


def ask(question: str, bank: str = "", **options: Unpack[GenerateOptions]) -> Folded[Answer]:
    """Ask a question in the form ``Question: …`` / ``Answer:`` and wait for one line.

    Args:
        question: The question.
        bank: The bank to read; empty for no memories.
        options: As for ``generate``; ``stop`` is the end of the line unless given.

    Returns:
        As ``generate``, each text without the blanks at its ends; its tokens are all there.

    Raises:
        InvalidArgumentError: The question is empty.
    """
    if not question.strip():
        raise InvalidArgumentError(
            "the question is empty", field="question", remedy="say what to ask"
        )
    with_stop: GenerateOptions = {"stop": "\n", **options}
    call = generate(f"Question: {question}\nAnswer:", bank, **with_stop)
    return replace(call, new_fold=lambda: folds.AnswerFold(strip=True))


def score(
    prompt: str,
    continuations: str | Sequence[str],
    bank: str = "",
    **options: Unpack[MemoryOptions],
) -> Unary[Scores]:
    """Give the log-likelihood of continuations of a prompt.

    Args:
        prompt: The common beginning; memories are found with it alone.
        continuations: One to 256 texts.
        bank: The bank to read; empty for no memories.
        options: Use of memories and ``timeout``: see ``MemoryOptions``.
    """
    check_names(options, MemoryOptions)
    request = decoder_pb2.ScoreRequest(
        prompt=prompt,
        continuations=[continuations] if isinstance(continuations, str) else continuations,
        bank=convert.resource_name(bank),
        memory=memory_message(options),
    )
    return Unary(_decoder("Score", _GENERATE_S), request, folds.scores, options.get("timeout"))


def tokenize(text: str, *, timeout: float | None = None) -> Unary[list[int]]:
    """Turn text into the checkpoint's tokens, without any begin token."""
    request = decoder_pb2.TokenizeRequest(text=text)
    return Unary(_decoder("Tokenize"), request, lambda r: list(r.token_ids), timeout)


def detokenize(token_ids: Sequence[int], *, timeout: float | None = None) -> Unary[str]:
    """Turn the checkpoint's tokens into text."""
    request = decoder_pb2.DetokenizeRequest(token_ids=token_ids)
    return Unary(_decoder("Detokenize"), request, lambda r: str(r.text), timeout)


def decoder_info(*, timeout: float | None = None) -> Unary[DecoderInfo]:
    """Describe the decoder: checkpoint, slots and queue."""
    request = decoder_pb2.DecoderServiceGetInfoRequest()
    return Unary(_decoder("GetInfo", 10.0), request, convert.decoder_info, timeout)


def embed(
    texts: str | Sequence[str],
    *,
    kind: Literal["query", "reference"] = "query",
    timeout: float | None = None,
) -> Unary[list[list[float]]]:
    """Turn texts into unit vectors for search; asks the encoder.

    Args:
        texts: One to 1024 texts.
        kind: Whether they are queries or references.
        timeout: Seconds for the call.
    """
    request = encoder_pb2.EmbedRequest(
        texts=[texts] if isinstance(texts, str) else texts, kind=_KINDS[kind]
    )
    return Unary(
        Endpoint("encoder", "Embed", 60.0),
        request,
        lambda r: [list(vector.values) for vector in r.vectors],
        timeout,
    )


def encoder_info(*, timeout: float | None = None) -> Unary[EncoderInfo]:
    """Describe the encoder: checkpoint, embedder and codecs."""
    request = encoder_pb2.EncoderServiceGetInfoRequest()
    return Unary(Endpoint("encoder", "GetInfo", 10.0), request, convert.encoder_info, timeout)


def _generate_request(
    prompt: str, bank: str, options: Mapping[str, Any]
) -> decoder_pb2.GenerateRequest:
    check_names(options, GenerateOptions)
    return decoder_pb2.GenerateRequest(
        prompt=prompt,
        bank=convert.resource_name(bank),
        sampling=sampling_message(options),
        memory=memory_message(options),
    )
