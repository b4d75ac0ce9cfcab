"""Requests of the wire into the decoder's own, and its events into messages.

What a request asks for is checked here before anything is done for it. It must not know gRPC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from google.protobuf.duration_pb2 import Duration
from tokenizers import Tokenizer

from memory3.v1 import decoder_pb2
from memory3_decoder.engine import Scores
from memory3_decoder.events import (
    ChunkMemories,
    Event,
    Finished,
    FinishReason,
    TextDelta,
    TokenLogprob,
    TokenSpan,
    Usage,
)
from memory3_decoder.parameters import (
    DEFAULT_MAX_TOKENS,
    Demand,
    GenerationRequest,
    MemoryOptions,
    ScoringRequest,
)
from memory3_decoder.validation import (
    RequestLimits,
    check_bank,
    check_token,
    read_memory_options,
    read_sampling,
    refuse,
)

MAX_TEXT_BYTES = 1024 * 1024
MAX_CONTINUATIONS = 256

_REASONS = {
    FinishReason.STOP: decoder_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: decoder_pb2.FINISH_REASON_LENGTH,
}


def demand_of(message: decoder_pb2.GenerateRequest, deadline: float | None) -> Demand:
    """What a request asks of the slots, before it is checked or its prompt read.

    Args:
        message: From the wire.
        deadline: When the caller stops waiting, on ``time.monotonic``.
    """
    sampling = message.sampling
    wanted = sampling.max_tokens if sampling.HasField("max_tokens") else DEFAULT_MAX_TOKENS
    return Demand(num_choices=max(1, sampling.n), max_tokens=max(1, wanted), deadline=deadline)


class RequestReader:
    """Reads and checks requests for one checkpoint.

    Args:
        tokenizer: The checkpoint's tokenizer.
        limits: What the checkpoint allows.
    """

    def __init__(self, tokenizer: Tokenizer, limits: RequestLimits) -> None:
        self._tokenizer = tokenizer
        self._limits = limits

    def generation(
        self, message: decoder_pb2.GenerateRequest, deadline: float | None
    ) -> GenerationRequest:
        """A request to generate.

        Args:
            message: From the wire.
            deadline: When the caller stops waiting, on ``time.monotonic``.

        Raises:
            InvalidArgumentError: A field cannot be accepted.
        """
        bank = check_bank(message.bank)
        memory = read_memory_options(message.memory, bank, self._limits)
        limits, unit = self._limits, "window"
        if memory.session is not None:
            limits = replace(limits, context_length=limits.session_tokens)
            unit = "session"
        sampling = read_sampling(message.sampling, limits)
        tokens = self.tokens(message.prompt, "prompt")
        left = limits.context_length - len(tokens)
        wanted = sampling.max_tokens
        if left < (wanted or 1):
            refuse(
                "prompt" if wanted is None else "sampling.max_tokens",
                f"{len(tokens)} tokens of the prompt and {wanted or 1} more do not fit into the "
                f"{unit} of {limits.context_length}",
                "shorten the prompt, or ask for fewer tokens" + self._way_on(memory),
            )
        if sampling.min_tokens > left:
            refuse("sampling.min_tokens", f"only {left} tokens are left", "ask for fewer")
        return GenerationRequest(
            prompt=message.prompt,
            prompt_tokens=tokens,
            max_tokens=min(DEFAULT_MAX_TOKENS, left) if wanted is None else wanted,
            bank=bank,
            sampling=sampling,
            memory=memory,
            deadline=deadline,
        )

    def scoring(self, message: decoder_pb2.ScoreRequest, deadline: float | None) -> ScoringRequest:
        """A request to score.

        Args:
            message: From the wire.
            deadline: When the caller stops waiting, on ``time.monotonic``.

        Raises:
            InvalidArgumentError: A field cannot be accepted.
        """
        bank = check_bank(message.bank)
        memory = read_memory_options(message.memory, bank, self._limits)
        if memory.session is not None:
            refuse("memory.session", "scoring has no sessions", "leave it unset")
        if not 1 <= len(message.continuations) <= MAX_CONTINUATIONS:
            refuse(
                "continuations",
                f"{len(message.continuations)} continuations were given",
                f"give 1 to {MAX_CONTINUATIONS}",
            )
        prompt = self.tokens(message.prompt, "prompt")
        continuations = []
        for index, text in enumerate(message.continuations):
            field = f"continuations[{index}]"
            tokens = self.tokens(text, field)
            if not tokens:
                refuse(field, "there is nothing to score", "leave it out, or give it text")
            if len(prompt) + len(tokens) > self._limits.context_length:
                refuse(
                    field,
                    f"{len(prompt)} tokens of the prompt and {len(tokens)} of the continuation do "
                    f"not fit into the window of {self._limits.context_length}",
                    "shorten one of them",
                )
            continuations.append(tokens)
        return ScoringRequest(
            prompt_tokens=prompt,
            continuations=tuple(continuations),
            bank=bank,
            memory=memory,
            deadline=deadline,
        )

    def _way_on(self, memory: MemoryOptions) -> str:
        """What else a caller can do whose text does not fit."""
        is_open = memory.session is None and self._limits.session_tokens
        return ", or set memory.session to go on past the window" if is_open else ""

    def tokens(self, text: str, field: str) -> tuple[int, ...]:
        """The tokens of a text, without any begin token.

        Raises:
            InvalidArgumentError: The text is too long to be read at all.
        """
        num_bytes = len(text.encode())
        if num_bytes > MAX_TEXT_BYTES:
            refuse(field, f"the text has {num_bytes} bytes", f"give at most {MAX_TEXT_BYTES}")
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special tokens included.

        Raises:
            InvalidArgumentError: A token is not one of the checkpoint's.
        """
        for index, token in enumerate(tokens):
            check_token(f"token_ids[{index}]", token, self._limits.num_tokens)
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text


def generate_response(event: Event) -> decoder_pb2.GenerateResponse:
    """The message for an event."""
    if isinstance(event, TextDelta):
        return decoder_pb2.GenerateResponse(delta=_delta(event))
    if isinstance(event, ChunkMemories):
        return decoder_pb2.GenerateResponse(attached=_chunk(event))
    return decoder_pb2.GenerateResponse(finish=_finish(event))


def score_response(scores: Scores) -> decoder_pb2.ScoreResponse:
    """The message for the scores of a request."""
    return decoder_pb2.ScoreResponse(
        scores=[
            decoder_pb2.ContinuationScore(
                logprob=score.logprob,
                num_tokens=len(score.token_logprobs),
                greedy=score.greedy,
                token_logprobs=score.token_logprobs,
            )
            for score in scores.continuations
        ],
        degraded=bool(scores.degraded_reason),
        degraded_reason=scores.degraded_reason,
    )


def _delta(event: TextDelta) -> decoder_pb2.TextDelta:
    return decoder_pb2.TextDelta(
        choice=event.choice,
        text=event.text,
        token_ids=event.token_ids,
        logprobs=[_logprob(logprob) for logprob in event.logprobs],
    )


def _logprob(logprob: TokenLogprob) -> decoder_pb2.TokenLogprob:
    return decoder_pb2.TokenLogprob(
        token_id=logprob.token_id,
        logprob=logprob.logprob,
        top=[
            decoder_pb2.TokenLogprob(token_id=token, logprob=value) for token, value in logprob.top
        ],
    )


def _chunk(event: ChunkMemories) -> decoder_pb2.ChunkMemories:
    return decoder_pb2.ChunkMemories(
        choice=event.choice,
        chunk=event.chunk,
        start_token=event.start_token,
        references=[
            decoder_pb2.AttachedReference(
                id=attached.id,
                score=attached.score,
                attention_mass=attached.attention_mass,
                reference=attached.reference,
                session=None if attached.span is None else _span(attached.span),
            )
            for attached in event.references
        ],
    )


def _span(span: TokenSpan) -> decoder_pb2.SessionSpan:
    return decoder_pb2.SessionSpan(start_token=span.start, num_tokens=span.num_tokens)


def _finish(event: Finished) -> decoder_pb2.Finish:
    return decoder_pb2.Finish(
        choice=event.choice,
        reason=_REASONS[event.reason],
        usage=_usage(event.usage),
        chunks=[_chunk(chunk) for chunk in event.chunks],
        degraded=bool(event.degraded_reason),
        degraded_reason=event.degraded_reason,
        stop=event.stop,
    )


def _usage(usage: Usage) -> decoder_pb2.Usage:
    return decoder_pb2.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        memories_attached=usage.memories_attached,
        retrievals=usage.retrievals,
        session_memories=usage.session_memories,
        time_to_first_token=_duration(usage.time_to_first_token_s),
        total_time=_duration(usage.total_time_s),
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration
