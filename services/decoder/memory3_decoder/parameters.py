"""What a caller asks for, as plain values: sampling, memory options, prompts, continuations.

It must not know protobuf (``convert`` does) nor torch. Values are checked in ``validation``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_MAX_TOKENS = 128


@dataclass(frozen=True, kw_only=True)
class SamplingParameters:
    """How the next token is chosen; the field comments of the wire message are the specification.

    Attributes:
        max_tokens: The most tokens to generate; None takes 128 or what the window leaves.
        min_tokens: Fewest tokens before an end token or stop string counts.
        temperature: 0 always takes the likeliest token.
        top_p: Total probability of the likeliest tokens that are kept.
        top_k: Number of likeliest tokens that are kept; 0 keeps all.
        min_p: Tokens less likely than this share of the likeliest are dropped.
        repetition_penalty: Divides positive and multiplies negative logits of tokens seen.
        presence_penalty: Subtracted once for each token of the output.
        frequency_penalty: Subtracted for each occurrence in the output.
        seed: None draws one.
        stop: Strings that end the text and are not part of it.
        stop_token_ids: Tokens that end the text besides the end-of-text token.
        logit_bias: Added to the logits of single tokens.
        logprobs: Number of alternatives reported for each token; None reports nothing.
        n: Number of choices.
        ignore_eos: Go on past the end-of-text token.
    """

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    n: int = 1
    ignore_eos: bool = False

    @property
    def has_penalties(self) -> bool:
        """Whether the tokens seen so far matter to the next one."""
        return (
            self.repetition_penalty != 1.0
            or self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
        )

    @property
    def has_filters(self) -> bool:
        """Whether some tokens are dropped before one is drawn."""
        return self.top_p < 1.0 or self.top_k > 0 or self.min_p > 0.0


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """Bounds of the memories that a call writes of its own text.

    Attributes:
        max_memories: The most that are kept; None keeps what the settings allow.
    """

    max_memories: int | None = None


@dataclass(frozen=True, kw_only=True)
class MemoryOptions:
    """Which memories are attached, and what happens when they are late.

    Attributes:
        num_references: Memories for each chunk; None takes the checkpoint's number.
        reference_ids: Attached to every chunk instead of what a search finds.
        retrieval_timeout_s: Bound of one retrieval in seconds; None takes the setting's.
        strict: Fail instead of going on without.
        report: Measure the attention mass of every memory.
        with_references: Tell text and origin of every attached reference.
        session: Write what leaves the window as memories; None ends where the window does.
    """

    num_references: int | None = None
    reference_ids: tuple[str, ...] = ()
    retrieval_timeout_s: float | None = None
    strict: bool = False
    report: bool = False
    with_references: bool = False
    session: SessionOptions | None = None


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a request asks of the slots: enough to turn it away before its prompt is read.

    Attributes:
        num_choices: Sequences.
        max_tokens: The most tokens of each.
        deadline: When the caller stops waiting, on ``time.monotonic``; None never.
    """

    num_choices: int
    max_tokens: int
    deadline: float | None


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """One prompt to continue.

    Attributes:
        prompt: Its text.
        prompt_tokens: Its tokens, without prefix and separator.
        max_tokens: The most tokens to generate, fitted to the window.
        bank: Resource name of the bank to read; empty reads none.
        sampling: How tokens are chosen.
        memory: How memories are used.
        deadline: When the caller stops waiting, on ``time.monotonic``; None never.
    """

    prompt: str
    prompt_tokens: tuple[int, ...]
    max_tokens: int
    bank: str = ""
    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    memory: MemoryOptions = field(default_factory=MemoryOptions)
    deadline: float | None = None

    @property
    def demand(self) -> Demand:
        """What it asks of the slots."""
        return Demand(
            num_choices=self.sampling.n, max_tokens=self.max_tokens, deadline=self.deadline
        )


@dataclass(frozen=True, kw_only=True)
class ScoringRequest:
    """Continuations of one prompt to score.

    Attributes:
        prompt_tokens: Tokens of the common beginning.
        continuations: Tokens of each continuation; none is empty.
        bank: Resource name of the bank to read; empty reads none.
        memory: How memories are used; ``report`` and ``with_references`` have no meaning here.
        deadline: When the caller stops waiting, on ``time.monotonic``; None never.
    """

    prompt_tokens: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]
    bank: str = ""
    memory: MemoryOptions = field(default_factory=MemoryOptions)
    deadline: float | None = None
