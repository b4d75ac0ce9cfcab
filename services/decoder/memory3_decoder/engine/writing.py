"""Memories that sessions write of their own text, one reference at a time between the steps.

Each reference is written alone, so that a memory never depends on who else writes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from memory3.memory.tensors import MemoryTensors


@dataclass(eq=False)
class WritingJob:
    """References of one request on their way through the engine.

    Attributes:
        references: Token ids of each, at least one.
        done: Resolves to the memories in their order.
        memories: Those that are ready.
    """

    references: Sequence[Sequence[int]]
    done: asyncio.Future[list[MemoryTensors]]
    memories: list[MemoryTensors] = field(default_factory=list)

    @property
    def next_reference(self) -> Sequence[int]:
        """What is to be written next."""
        return self.references[len(self.memories)]

    def add(self, memory: MemoryTensors) -> bool:
        """Take in a memory; whether it was the last."""
        self.memories.append(memory)
        is_last = len(self.memories) == len(self.references)
        if is_last and not self.done.done():
            self.done.set_result(self.memories)
        return is_last


class WritingQueue:
    """Jobs that take turns after each reference."""

    def __init__(self) -> None:
        self._jobs: deque[WritingJob] = deque()

    def add(self, job: WritingJob) -> None:
        """Put a job at the end."""
        self._jobs.append(job)

    def put_back(self, job: WritingJob) -> None:
        """Put a job that had no turn back to the front."""
        self._jobs.appendleft(job)

    def pop(self) -> WritingJob | None:
        """Take out the next job that somebody still waits for."""
        while self._jobs:
            job = self._jobs.popleft()
            if not job.done.done():
                return job
        return None
