"""What the engine tells a caller while it generates, as plain values.

It must not know protobuf; ``convert`` turns events into messages.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from memory3.v1.memory_pb2 import Reference


@dataclass(frozen=True)
class TokenLogprob:
    """The log-probability of a token in the raw distribution.

    Attributes:
        token_id: The token.
        logprob: Natural logarithm, before temperature, bias, penalties and filters.
        top: The likeliest tokens with theirs, likeliest first.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class TextDelta:
    """New text of a choice.

    Attributes:
        choice: Number of the choice, from 0.
        text: Never ends inside a character or inside a possible stop string.
        token_ids: Every token generated since the last delta, an end token included.
        logprobs: One for each token, if asked for.
    """

    choice: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class TokenSpan:
    """Tokens of a call's own text that a memory was written from.

    Attributes:
        start: Offset of the first from the start of the prompt.
        num_tokens: How many.
    """

    start: int
    num_tokens: int


@dataclass(frozen=True)
class AttachedReference:
    """A reference that a chunk can read.

    Attributes:
        id: Its id; empty where there is a span.
        score: Cosine of the chunk's query and the reference.
        attention_mass: Share of attention; 0 unless a report was asked for.
        reference: Text and origin, if asked for.
        span: The tokens of the call that it was written from; None for one of a bank.
    """

    id: str
    score: float
    attention_mass: float = 0.0
    reference: Reference | None = None
    span: TokenSpan | None = None


@dataclass(frozen=True)
class ChunkMemories:
    """The references attached to one chunk of a choice.

    Attributes:
        choice: Number of the choice.
        chunk: Number of the chunk, from 0 at the start of the prompt.
        start_token: Offset of its first token from the start of the prompt.
        references: Likeliest first.
    """

    choice: int
    chunk: int
    start_token: int
    references: tuple[AttachedReference, ...]


class FinishReason(enum.Enum):
    """Why a choice ended; the values are the label values of the metric."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True)
class Usage:
    """Counts of one choice.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens generated, an end token included.
        memories_attached: Memories attached, over all chunks.
        retrievals: Calls to the retriever; the prompt's counts in every choice that shares it.
        time_to_first_token_s: Seconds from the arrival of the request.
        total_time_s: Seconds from the arrival of the request.
        session_memories: Memories written of the call's own text; the prompt's count in every
            choice that shares them.
    """

    prompt_tokens: int
    completion_tokens: int
    memories_attached: int
    retrievals: int
    time_to_first_token_s: float
    total_time_s: float
    session_memories: int = 0


@dataclass(frozen=True)
class Finished:
    """The end of a choice.

    Attributes:
        choice: Number of the choice.
        reason: Why it ended.
        usage: What it took.
        chunks: What was attached, with attention mass if a report was asked for.
        degraded_reason: Why some memories are missing, for people; empty where none is.
        stop: The stop string that ended the text, if one did.
    """

    choice: int
    reason: FinishReason
    usage: Usage
    chunks: tuple[ChunkMemories, ...] = field(default=())
    degraded_reason: str = ""
    stop: str = ""


Event = TextDelta | ChunkMemories | Finished
