"""The keyword options of generation and scoring, and the messages they become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

from google.protobuf.duration_pb2 import Duration

from memory3.errors import InvalidArgumentError
from memory3.v1 import decoder_pb2


class MemoryOptions(TypedDict, total=False):
    """How memories are used; what is left out takes the decoder's default.

    Attributes:
        num_references: Memories for each chunk, up to the checkpoint's references per chunk.
        reference_ids: Attached to every chunk instead of what a search finds.
        retrieval_timeout: Seconds that one retrieval may take.
        strict: Fail with UnavailableError when memories cannot be had, instead of going on
            without and saying ``degraded``.
        report: Ask for the attention mass of every attached reference.
        with_references: Ask for text and origin of every attached reference.
        session: Let prompt and output be longer than the window: what leaves it is written as
            memories of this call. True, or the most memories to keep. Generation only.
        timeout: Seconds for the whole call.
    """

    num_references: int
    reference_ids: Sequence[str]
    retrieval_timeout: float
    strict: bool
    report: bool
    with_references: bool
    session: bool | int
    timeout: float


class GenerateOptions(MemoryOptions, total=False):
    """How tokens are chosen and memories used; the decoder's defaults are in brackets.

    Attributes:
        max_tokens: The most tokens to generate [128].
        min_tokens: The fewest tokens before an end counts [0].
        temperature: 0 to 2; 0 always takes the likeliest token [0].
        top_p: Keep the likeliest tokens of this total probability [1].
        top_k: Keep this many of the likeliest tokens; 0 keeps all [0].
        min_p: Keep tokens at least this share as likely as the likeliest [0].
        repetition_penalty: Divides the logits of tokens seen before [1].
        presence_penalty: Subtracted once for each token of the output [0].
        frequency_penalty: Subtracted for each occurrence in the output [0].
        seed: Makes sampling repeatable [random].
        stop: At most 16 strings that end the text and are not part of it.
        stop_token_ids: Tokens that end the text besides the end-of-text token.
        logit_bias: Added to the logits of single tokens, by token id.
        logprobs: How many of the likeliest alternatives to report for each token.
        n: How many choices [1].
        ignore_eos: Go on past the end-of-text token.
    """

    max_tokens: int
    min_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    seed: int
    stop: str | Sequence[str]
    stop_token_ids: Sequence[int]
    logit_bias: Mapping[int, float]
    logprobs: int
    n: int
    ignore_eos: bool


_MEMORY_NAMES: Final = frozenset(MemoryOptions.__annotations__) - {"timeout"}
_SAMPLING_NAMES: Final = frozenset(GenerateOptions.__annotations__) - _MEMORY_NAMES - {"timeout"}


def duration(seconds: float | None) -> Duration | None:
    """The message for a time span; None stays unset."""
    if seconds is None:
        return None
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


def check_names(options: Mapping[str, Any], known: type) -> None:
    """Refuse options that do not exist, which a typed dictionary does only in a type checker.

    Raises:
        TypeError: An option is not one of ``known``; the message lists those that are.
    """
    surplus = sorted(options.keys() - known.__annotations__.keys())
    if surplus:
        all_known = ", ".join(sorted(known.__annotations__))
        raise TypeError(f"unknown option {', '.join(surplus)}; known: {all_known}")


def sampling_message(options: Mapping[str, Any]) -> decoder_pb2.SamplingParameters:
    """The sampling parameters among the options.

    Raises:
        InvalidArgumentError: A value does not fit the field, naming it.
    """
    message = decoder_pb2.SamplingParameters()
    for name in sorted(options.keys() & _SAMPLING_NAMES):
        _set(message, name, options[name], f"sampling.{name}")
    return message


def memory_message(options: Mapping[str, Any]) -> decoder_pb2.MemoryOptions:
    """The memory options among the options.

    Raises:
        InvalidArgumentError: A value does not fit the field, naming it.
    """
    message = decoder_pb2.MemoryOptions()
    for name in sorted(options.keys() & _MEMORY_NAMES):
        _set(message, name, options[name], f"memory.{name}")
    return message


def _set_session(message: decoder_pb2.MemoryOptions, value: bool | int) -> None:
    if value is False:
        return
    message.session.SetInParent()
    if value is not True:
        message.session.max_memories = value


def _set(message: Any, name: str, value: Any, field: str) -> None:
    if value is None:
        return
    try:
        if name == "retrieval_timeout":
            getattr(message, name).CopyFrom(duration(value))
        elif name == "session":
            _set_session(message, value)
        elif name == "logit_bias":
            message.logit_bias.update(value)
        elif name == "stop":
            message.stop.extend([value] if isinstance(value, str) else value)
        elif name in ("reference_ids", "stop_token_ids"):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgumentError(
            f"{value!r} is not accepted: {error}", field=field, remedy="see the option's range"
        ) from error
