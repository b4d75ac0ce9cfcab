"""Turns the decoder's and the retriever's streams into events and finished answers.

It must not know channels or calls: a fold is fed messages, by whichever client reads them.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from google.protobuf.duration_pb2 import Duration

from memory3.errors import CorruptDataError, InternalError
from memory3.sdk import convert
from memory3.sdk.answers import (
    Answer,
    AttachedReference,
    Choice,
    ChunkMemories,
    Event,
    Finish,
    Score,
    Scores,
    TextDelta,
    TokenLogprob,
    Usage,
)
from memory3.sdk.references import Retrieved, RetrieveHit
from memory3.v1 import decoder_pb2, retriever_pb2

MessageT_contra = TypeVar("MessageT_contra", contravariant=True)
ResultT_co = TypeVar("ResultT_co", covariant=True)


class Fold(Protocol, Generic[MessageT_contra, ResultT_co]):
    """Takes the messages of a stream one by one, then gives the result of all of them."""

    def feed(self, message: MessageT_contra) -> None:
        """Take the next message."""

    def result(self) -> ResultT_co:
        """What all messages together say."""


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos * 1e-9


def _logprob(message: decoder_pb2.TokenLogprob) -> TokenLogprob:
    top = tuple(TokenLogprob(other.token_id, other.logprob) for other in message.top)
    return TokenLogprob(message.token_id, message.logprob, top)


def _chunk(message: decoder_pb2.ChunkMemories) -> ChunkMemories:
    return ChunkMemories(
        choice=message.choice,
        chunk=message.chunk,
        start_token=message.start_token,
        references=tuple(
            AttachedReference(
                id=attached.id,
                score=attached.score,
                attention_mass=attached.attention_mass,
                reference=(
                    convert.reference(attached.reference)
                    if attached.HasField("reference")
                    else None
                ),
                session=(
                    (attached.session.start_token, attached.session.num_tokens)
                    if attached.HasField("session")
                    else None
                ),
            )
            for attached in message.references
        ),
    )


def _finish(message: decoder_pb2.Finish) -> Finish:
    counted = message.usage
    return Finish(
        choice=message.choice,
        reason="length" if message.reason == decoder_pb2.FINISH_REASON_LENGTH else "stop",
        usage=Usage(
            prompt_tokens=counted.prompt_tokens,
            completion_tokens=counted.completion_tokens,
            memories_attached=counted.memories_attached,
            retrievals=counted.retrievals,
            time_to_first_token=_seconds(counted.time_to_first_token),
            total_time=_seconds(counted.total_time),
        ),
        chunks=tuple(_chunk(chunk) for chunk in message.chunks),
        degraded=message.degraded,
        degraded_reason=message.degraded_reason,
        stop=message.stop,
    )


def event(message: decoder_pb2.GenerateResponse) -> Event | None:
    """The event in a message; None where a newer decoder sends a kind unknown here."""
    match message.WhichOneof("event"):
        case "delta":
            delta = message.delta
            logprobs = tuple(_logprob(logprob) for logprob in delta.logprobs)
            return TextDelta(delta.choice, delta.text, tuple(delta.token_ids), logprobs)
        case "attached":
            return _chunk(message.attached)
        case "finish":
            return _finish(message.finish)
    return None


class AnswerFold:
    """Folds the stream of Generate into an answer.

    Args:
        strip: Give each text without the blanks at its ends.
    """

    def __init__(self, *, strip: bool = False) -> None:
        self._strip = strip
        self._deltas: dict[int, list[TextDelta]] = {}
        self._finished: dict[int, Finish] = {}

    def feed(self, message: decoder_pb2.GenerateResponse) -> None:
        """Take the next message."""
        happened = event(message)
        if isinstance(happened, TextDelta):
            self._deltas.setdefault(happened.choice, []).append(happened)
        elif isinstance(happened, Finish):
            self._finished[happened.choice] = happened

    def result(self) -> Answer:
        """The answer.

        Raises:
            InternalError: The stream ended without the end of a choice.
        """
        missing = self._deltas.keys() - self._finished.keys()
        if missing or not self._finished:
            raise InternalError(
                "the decoder's stream ended before the text did",
                remedy="look into the decoder's log",
            )
        return Answer(tuple(self._choice(number) for number in sorted(self._finished)))

    def _choice(self, number: int) -> Choice:
        deltas = self._deltas.get(number, [])
        text = "".join(delta.text for delta in deltas)
        return Choice(
            text=text.strip() if self._strip else text,
            token_ids=tuple(token for delta in deltas for token in delta.token_ids),
            logprobs=tuple(logprob for delta in deltas for logprob in delta.logprobs),
            finish=self._finished[number],
        )


class RetrievedFold:
    """Folds the stream of Retrieve into hits and whole envelopes."""

    def __init__(self) -> None:
        self._hits: dict[int, tuple[RetrieveHit, ...]] = {}
        self._buffers: dict[str, bytearray] = {}
        self._sizes: dict[str, int] = {}
        self._revision = 0

    def feed(self, message: retriever_pb2.RetrieveResponse) -> None:
        """Take the next message.

        Raises:
            CorruptDataError: A piece does not continue the one before it.
        """
        if message.WhichOneof("part") == "result":
            result = message.result
            self._hits[result.query_index] = tuple(convert.retrieve_hit(h) for h in result.hits)
            self._revision = result.revision
        elif message.WhichOneof("part") == "piece":
            piece = message.piece
            buffer = self._buffers.setdefault(piece.reference_id, bytearray())
            if piece.offset != len(buffer):
                raise _torn(piece.reference_id, f"a piece at {piece.offset} follows {len(buffer)}")
            buffer += piece.data
            self._sizes[piece.reference_id] = piece.total_bytes

    def result(self) -> Retrieved:
        """Hits and memories.

        Raises:
            CorruptDataError: A memory is shorter or longer than announced.
        """
        for id_, buffer in self._buffers.items():
            if len(buffer) != self._sizes[id_]:
                raise _torn(id_, f"{len(buffer)} bytes came of {self._sizes[id_]}")
        return Retrieved(
            hits=tuple(self._hits[index] for index in sorted(self._hits)),
            memories={id_: bytes(buffer) for id_, buffer in self._buffers.items()},
            revision=self._revision,
        )


def _torn(reference_id: str, what: str) -> CorruptDataError:
    return CorruptDataError(
        f"the memory of reference {reference_id} came incomplete: {what}",
        field="piece",
        remedy="retrieve it again",
    )


def scores(message: decoder_pb2.ScoreResponse) -> Scores:
    """The likelihoods of continuations."""
    return Scores(
        scores=tuple(
            Score(score.logprob, score.num_tokens, score.greedy, tuple(score.token_logprobs))
            for score in message.scores
        ),
        degraded=message.degraded,
        degraded_reason=message.degraded_reason,
    )
