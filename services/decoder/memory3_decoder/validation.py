"""Sampling parameters and memory options of a request, refused field by field.

Every error names the field as the wire message does and says what would be accepted. It must not
know the tokenizer or the model beyond the three numbers it is given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from memory3.errors import InvalidArgumentError
from memory3.v1 import decoder_pb2
from memory3_decoder.parameters import MemoryOptions, SamplingParameters, SessionOptions

MAX_STOPS = 16
MAX_STOP_CHARACTERS = 1024
MAX_STOP_TOKENS = 64
MAX_BIASES = 300
MAX_LOGPROBS = 20
MAX_CHOICES = 16
MAX_RETRIEVAL_TIMEOUT_S = 60.0

_BANK = re.compile(r"banks/[a-z][a-z0-9-]{0,62}")
_REFERENCE_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class RequestLimits:
    """What the checkpoint allows.

    Attributes:
        num_tokens: Size of the vocabulary.
        context_length: Most tokens of prompt and output together.
        references_per_chunk: Most memories of a chunk.
        session_tokens: Most tokens of prompt and output together in a session; 0 offers none.
    """

    num_tokens: int
    context_length: int
    references_per_chunk: int
    session_tokens: int = 0


def refuse(field: str, message: str, remedy: str) -> NoReturn:
    """Refuse a field.

    Raises:
        InvalidArgumentError: Always.
    """
    raise InvalidArgumentError(message, field=field, remedy=remedy)


def check_bank(name: str) -> str:
    """A bank's resource name; empty where no memories are wanted.

    Raises:
        InvalidArgumentError: It is not of the form ``banks/{bank}``.
    """
    if name and not _BANK.fullmatch(name):
        refuse(
            "bank",
            f"{name[:80]!r} is not the name of a bank",
            "use banks/NAME with a name of a-z, 0-9 and -, beginning with a letter, or leave it "
            "empty",
        )
    return name


def read_sampling(
    message: decoder_pb2.SamplingParameters, limits: RequestLimits
) -> SamplingParameters:
    """The sampling parameters of a request.

    Raises:
        InvalidArgumentError: A field is out of range.
    """
    default = SamplingParameters()

    def integer(name: str, least: int, most: int) -> int | None:
        return _integer(message, name, least, most)

    def real(name: str, least: float, most: float, *, above: bool = False) -> float:
        found = _real(message, name, least, most, above=above)
        standard: float = getattr(default, name)
        return standard if found is None else found

    max_tokens = integer("max_tokens", 1, limits.context_length)
    most = limits.context_length if max_tokens is None else max_tokens
    return SamplingParameters(
        max_tokens=max_tokens,
        min_tokens=integer("min_tokens", 0, most) or 0,
        temperature=real("temperature", 0.0, 2.0),
        top_p=real("top_p", 0.0, 1.0, above=True),
        top_k=integer("top_k", 0, 2**31 - 1) or 0,
        min_p=real("min_p", 0.0, 1.0),
        repetition_penalty=real("repetition_penalty", 0.0, 2.0, above=True),
        presence_penalty=real("presence_penalty", -2.0, 2.0),
        frequency_penalty=real("frequency_penalty", -2.0, 2.0),
        seed=message.seed if message.HasField("seed") else None,
        stop=_stops(message),
        stop_token_ids=_stop_tokens(message, limits.num_tokens),
        logit_bias=_biases(message, limits.num_tokens),
        logprobs=integer("logprobs", 0, MAX_LOGPROBS),
        n=integer("n", 1, MAX_CHOICES) or 1,
        ignore_eos=message.ignore_eos,
    )


def read_memory_options(
    message: decoder_pb2.MemoryOptions, bank: str, limits: RequestLimits
) -> MemoryOptions:
    """The memory options of a request.

    Raises:
        InvalidArgumentError: A field is out of range, or names references without a bank.
    """
    most = limits.references_per_chunk
    number = message.num_references if message.HasField("num_references") else None
    if number is not None and not 0 <= number <= most:
        refuse(
            "memory.num_references",
            f"{number} memories cannot be attached to a chunk",
            f"use 0 to {most}, or leave it unset for {most}",
        )
    return MemoryOptions(
        num_references=number,
        reference_ids=_reference_ids(message, bank, most),
        retrieval_timeout_s=_timeout(message),
        strict=message.strict,
        report=message.report,
        with_references=message.with_references,
        session=_session(message, limits),
    )


def _session(message: decoder_pb2.MemoryOptions, limits: RequestLimits) -> SessionOptions | None:
    if not message.HasField("session"):
        return None
    if not limits.session_tokens:
        refuse(
            "memory.session",
            "this decoder offers no sessions",
            "leave it unset, or have the decoder started with session_tokens and session_bytes "
            "above 0 and a window of two references at least",
        )
    given = message.session
    number = given.max_memories if given.HasField("max_memories") else None
    if number is not None and number < 1:
        refuse(
            "memory.session.max_memories",
            f"{number} memories cannot be kept",
            "use at least 1, or leave it unset for as many as the decoder allows",
        )
    return SessionOptions(max_memories=number)


def _integer(
    message: decoder_pb2.SamplingParameters, name: str, least: int, most: int
) -> int | None:
    if not message.HasField(name):  # type: ignore[arg-type]
        return None
    value: int = getattr(message, name)
    if not least <= value <= most:
        refuse(f"sampling.{name}", f"{value} is out of range", f"use {least} to {most}")
    return value


def _real(
    message: decoder_pb2.SamplingParameters, name: str, least: float, most: float, *, above: bool
) -> float | None:
    if not message.HasField(name):  # type: ignore[arg-type]
        return None
    value: float = getattr(message, name)
    # Written so that NaN, which compares false with everything, is refused.
    if not (least <= value <= most) or (above and value == least):
        start = f"above {least:g}" if above else f"{least:g}"
        refuse(f"sampling.{name}", f"{value:g} is out of range", f"use {start} to {most:g}")
    return value


def _stops(message: decoder_pb2.SamplingParameters) -> tuple[str, ...]:
    if len(message.stop) > MAX_STOPS:
        refuse(
            "sampling.stop",
            f"{len(message.stop)} stop strings were given",
            f"give at most {MAX_STOPS}",
        )
    for index, stop in enumerate(message.stop):
        if not 1 <= len(stop) <= MAX_STOP_CHARACTERS:
            refuse(
                f"sampling.stop[{index}]",
                f"a stop string of {len(stop)} characters cannot be looked for",
                f"use 1 to {MAX_STOP_CHARACTERS} characters",
            )
    return tuple(message.stop)


def _stop_tokens(message: decoder_pb2.SamplingParameters, num_tokens: int) -> tuple[int, ...]:
    if len(message.stop_token_ids) > MAX_STOP_TOKENS:
        refuse(
            "sampling.stop_token_ids",
            f"{len(message.stop_token_ids)} stop tokens were given",
            f"give at most {MAX_STOP_TOKENS}",
        )
    for index, token in enumerate(message.stop_token_ids):
        check_token(f"sampling.stop_token_ids[{index}]", token, num_tokens)
    return tuple(message.stop_token_ids)


def _biases(message: decoder_pb2.SamplingParameters, num_tokens: int) -> dict[int, float]:
    if len(message.logit_bias) > MAX_BIASES:
        refuse(
            "sampling.logit_bias",
            f"{len(message.logit_bias)} entries were given",
            f"give at most {MAX_BIASES}",
        )
    for token, bias in message.logit_bias.items():
        check_token("sampling.logit_bias", token, num_tokens)
        if not -100.0 <= bias <= 100.0:
            refuse(f"sampling.logit_bias[{token}]", f"{bias:g} is out of range", "use -100 to 100")
    return dict(message.logit_bias)


def check_token(field: str, token: int, num_tokens: int) -> None:
    """Refuse what is no token of the checkpoint.

    Raises:
        InvalidArgumentError: The id is out of range.
    """
    if not 0 <= token < num_tokens:
        refuse(field, f"{token} is no token of this checkpoint", f"use 0 to {num_tokens - 1}")


def _reference_ids(message: decoder_pb2.MemoryOptions, bank: str, most: int) -> tuple[str, ...]:
    ids = tuple(message.reference_ids)
    if ids and not bank:
        refuse("bank", "references are named but no bank", "name the bank they are in")
    if len(ids) > most:
        refuse(
            "memory.reference_ids",
            f"{len(ids)} references do not fit into a chunk",
            f"name at most {most}",
        )
    for index, reference_id in enumerate(ids):
        field = f"memory.reference_ids[{index}]"
        if not _REFERENCE_ID.fullmatch(reference_id):
            refuse(
                field,
                f"{reference_id[:80]!r} is not the id of a reference",
                "use the 32 lower-case hexadecimal digits that the retriever gave",
            )
        if reference_id in ids[:index]:
            refuse(field, "the reference is named twice", "name each reference once")
    return ids


def _timeout(message: decoder_pb2.MemoryOptions) -> float | None:
    if not message.HasField("retrieval_timeout"):
        return None
    given = message.retrieval_timeout
    seconds = given.seconds + given.nanos / 1e9
    if not 0.0 < seconds <= MAX_RETRIEVAL_TIMEOUT_S:
        refuse(
            "memory.retrieval_timeout",
            f"{seconds:g} s is out of range",
            f"use more than 0 and at most {MAX_RETRIEVAL_TIMEOUT_S:g} s, or leave it unset",
        )
    return seconds
