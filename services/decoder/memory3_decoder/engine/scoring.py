"""Scoring jobs: continuations of one prompt, one prefill each, between the steps of the others."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass, field

from memory3.memory.tensors import MemoryTensors
from memory3_decoder.engine.pieces import Pieces
from memory3_decoder.model.jobs import Piece
from memory3_decoder.parameters import ScoringRequest
from memory3_decoder.session import PromptMemories


@dataclass(frozen=True)
class ContinuationScore:
    """The likelihood of one continuation.

    Attributes:
        token_logprobs: Natural log-probability of each token.
        greedy: Whether every token was the likeliest.
    """

    token_logprobs: tuple[float, ...]
    greedy: bool

    @property
    def logprob(self) -> float:
        """The sum over the tokens."""
        return math.fsum(self.token_logprobs)


@dataclass(frozen=True)
class Scores:
    """The answer to a scoring request.

    Attributes:
        continuations: In the order of the request.
        degraded_reason: Why memories are missing; empty where none is.
    """

    continuations: tuple[ContinuationScore, ...]
    degraded_reason: str = ""


@dataclass(eq=False)
class ScoringJob:
    """A scoring request on its way through the engine.

    Attributes:
        wanted: What the caller asked for.
        memories: What the prompt reads.
        chunk_length: Tokens of a chunk.
        done: Resolves to the scores.
        scores: Those that are ready.
    """

    wanted: ScoringRequest
    memories: PromptMemories
    chunk_length: int
    done: asyncio.Future[Scores]
    scores: list[ContinuationScore] = field(default_factory=list)
    _pieces: Pieces | None = None
    _logprobs: list[float] = field(default_factory=list)
    _greedy: bool = True

    @property
    def is_late(self) -> bool:
        """Whether the caller's deadline has passed."""
        return self.wanted.deadline is not None and time.monotonic() >= self.wanted.deadline

    @property
    def is_midway(self) -> bool:
        """Whether a continuation has been read in part."""
        return self._pieces is not None

    def next_piece(self, budget: int) -> tuple[Piece, tuple[int, ...]] | None:
        """The next piece of prompt and continuation, and those tokens to score that it predicts.

        Args:
            budget: The most tokens it may have; None comes back where no piece fits.
        """
        prompt, continuation = self.wanted.prompt_tokens, self._next_continuation
        text = (*prompt, *continuation)
        if self._pieces is None:
            # The last token is predicted and not read.
            self._pieces = Pieces(text[:-1], self._chunk_memories(), self.chunk_length)
        piece = self._pieces.take(budget)
        if piece is None:
            return None
        # Every token predicts the one after it, and the separator before the first piece the first.
        first = piece.start + 1 if piece.start else 0
        return piece, text[max(first, len(prompt)) : piece.stop + 1]

    @property
    def _next_continuation(self) -> tuple[int, ...]:
        return self.wanted.continuations[len(self.scores)]

    def _chunk_memories(self) -> list[list[MemoryTensors]]:
        """What each chunk of prompt and next continuation reads.

        The continuation must not look for memories, so what lies past the prompt's last chunk reads
        what that chunk reads.
        """
        num_tokens = len(self.wanted.prompt_tokens) + len(self._next_continuation)
        num_chunks = max(1, -(-num_tokens // self.chunk_length))
        chunks = list(self.memories.chunks)
        chunks += [self.memories.inherited] * (num_chunks - len(chunks))
        return [[memory.tensors for memory in memories] for memories in chunks]

    def add(self, piece: Piece, logprobs: list[float], greedy: bool) -> bool:
        """Take in what a piece gave; whether everything is scored."""
        self._logprobs += logprobs
        self._greedy = self._greedy and greedy
        if not piece.is_last:
            return False
        self.scores.append(ContinuationScore(tuple(self._logprobs), self._greedy))
        self._pieces, self._logprobs, self._greedy = None, [], True
        if len(self.scores) < len(self.wanted.continuations):
            return False
        if not self.done.done():
            self.done.set_result(Scores(tuple(self.scores), self.memories.degraded_reason))
        return True


class ScoringQueue:
    """Jobs that take turns after each continuation, so that many do not hold up one."""

    def __init__(self) -> None:
        self._jobs: deque[ScoringJob] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: ScoringJob) -> None:
        """Put a job at the end; one that is midway goes on first, since it holds the only slot."""
        if job.is_midway:
            self._jobs.appendleft(job)
        else:
            self._jobs.append(job)

    def pop(self) -> ScoringJob | None:
        """Take out the next job that somebody still waits for."""
        while self._jobs:
            job = self._jobs.popleft()
            if not job.done.done():
                return job
        return None
