"""What the SDK says about generated and scored text, and about the memories that were read.

Plain frozen dataclasses: this module must not know protobuf or gRPC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from memory3.sdk.references import Reference

FinishReason = Literal["stop", "length"]
"""``stop``: an end token or a stop string. ``length``: ``max_tokens`` or the model's window."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The natural log-probability of a token, before temperature and filters."""

    token_id: int
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class AttachedReference:
    """A reference that a chunk can read.

    Attributes:
        id: The id of the reference.
        score: The cosine of the chunk's query and the reference.
        attention_mass: The share of attention that the chunk gave to this memory; 0 unless a
            report was asked for.
        reference: Text and origin, if asked for.
        session: Start and number of the tokens of the call that the memory was written from,
            counted from the start of the prompt; None for one of a bank.
    """

    id: str
    score: float
    attention_mass: float = 0.0
    reference: Reference | None = None
    session: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ChunkMemories:
    """The references attached to one chunk of a choice.

    Attributes:
        choice: The number of the choice, from 0.
        chunk: The number of the chunk, from 0 at the start of the prompt.
        start_token: The offset of the chunk's first token from the start of the prompt.
        references: The attached references, likeliest first.
    """

    choice: int
    chunk: int
    start_token: int
    references: tuple[AttachedReference, ...]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New text of a choice; never ends inside a character or a possible stop string."""

    choice: int
    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, memories and times of a call; times in seconds since the request arrived."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    memories_attached: int = 0
    retrievals: int = 0
    time_to_first_token: float = 0.0
    total_time: float = 0.0


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a choice.

    Attributes:
        choice: The number of the choice.
        reason: Why it ended.
        usage: Tokens and times.
        chunks: What was attached, with attention mass if a report was asked for.
        degraded: True if some memories were late or missing.
        degraded_reason: Why, for people.
        stop: The stop string that ended the text; empty if none did.
    """

    choice: int
    reason: FinishReason
    usage: Usage
    chunks: tuple[ChunkMemories, ...] = ()
    degraded: bool = False
    degraded_reason: str = ""
    stop: str = ""


Event = TextDelta | ChunkMemories | Finish
"""One event of a stream: new text, newly attached references, or the end of a choice."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One finished continuation."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]
    finish: Finish


@dataclass(frozen=True, slots=True)
class Answer:
    """The finished continuations of a prompt; the properties speak of the first."""

    choices: tuple[Choice, ...]

    @property
    def text(self) -> str:
        """The generated text."""
        return self.choices[0].text

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The generated tokens."""
        return self.choices[0].token_ids

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...]:
        """Log-probabilities of the generated tokens, if asked for."""
        return self.choices[0].logprobs

    @property
    def finish_reason(self) -> FinishReason:
        """Why the text ended."""
        return self.choices[0].finish.reason

    @property
    def chunks(self) -> tuple[ChunkMemories, ...]:
        """The references attached to each chunk of prompt and output."""
        return self.choices[0].finish.chunks

    @property
    def usage(self) -> Usage:
        """Tokens and times."""
        return self.choices[0].finish.usage

    @property
    def degraded(self) -> bool:
        """True if some memories were late or missing and the text was made without them."""
        return self.choices[0].finish.degraded


@dataclass(frozen=True, slots=True)
class Score:
    """The likelihood of one continuation.

    Attributes:
        logprob: The sum of the natural log-probabilities of its tokens.
        num_tokens: Its length in tokens.
        greedy: True if every token was the likeliest.
        token_logprobs: The parts of the sum.
    """

    logprob: float
    num_tokens: int
    greedy: bool
    token_logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of several continuations, in their order.

    Attributes:
        scores: One for each continuation.
        degraded: True if some memories were late or missing.
        degraded_reason: Why, for people.
    """

    scores: tuple[Score, ...]
    degraded: bool
    degraded_reason: str = ""

    @property
    def best(self) -> int:
        """The position of the likeliest continuation."""
        return max(range(len(self.scores)), key=lambda index: self.scores[index].logprob)
