"""Scoring jobs: continuations of one prompt, one prefill each, between the steps of the others."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass, field

from memory3.memory.tensors import MemoryTensors
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

    @property
    def is_late(self) -> bool:
        """Whether the caller's deadline has passed."""
        return self.wanted.deadline is not None and time.monotonic() >= self.wanted.deadline

    @property
    def next_continuation(self) -> tuple[int, ...]:
        """The tokens to score next."""
        return self.wanted.continuations[len(self.scores)]

    def chunk_memories(self) -> list[list[MemoryTensors]]:
        """What each chunk of prompt and next continuation reads.

        The continuation must not look for memories, so what lies past the prompt's last chunk reads
        what that chunk reads.
        """
        num_tokens = len(self.wanted.prompt_tokens) + len(self.next_continuation)
        num_chunks = max(1, -(-num_tokens // self.chunk_length))
        chunks = list(self.memories.chunks)
        chunks += [self.memories.inherited] * (num_chunks - len(chunks))
        return [[memory.tensors for memory in memories] for memories in chunks]

    def add(self, logprobs: list[float], greedy: bool) -> bool:
        """Take in a score; whether it was the last."""
        self.scores.append(ContinuationScore(tuple(logprobs), greedy))
        if len(self.scores) < len(self.wanted.continuations):
            return False
        if not self.done.done():
            self.done.set_result(Scores(tuple(self.scores), self.memories.degraded_reason))
        return True


class ScoringQueue:
    """Jobs that take turns, so that a long one does not hold up a short one."""

    def __init__(self) -> None:
        self._jobs: deque[ScoringJob] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: ScoringJob) -> None:
        """Put a job at the end."""
        self._jobs.append(job)

    def pop(self) -> ScoringJob | None:
        """Take out the next job that somebody still waits for."""
        while self._jobs:
            job = self._jobs.popleft()
            if not job.done.done():
                return job
        return None
