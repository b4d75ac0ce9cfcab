"""What the decoder offers inside its process: generate and score, within bounds."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import abc
from collections.abc import Callable
from dataclasses import dataclass

from tokenizers import Tokenizer

from memory3.errors import DrainingError
from memory3.memory.tensors import MemoryTensors
from memory3.model.config import ModelConfig
from memory3_decoder.engine.admission import Admission, Line
from memory3_decoder.engine.loop import DecodeLoop
from memory3_decoder.engine.request import Request
from memory3_decoder.engine.scoring import Scores, ScoringJob
from memory3_decoder.engine.sequence import Sequence
from memory3_decoder.engine.stream import EventStream
from memory3_decoder.engine.turns import Turns
from memory3_decoder.engine.writing import WritingJob
from memory3_decoder.metrics import DecoderMetrics
from memory3_decoder.model.runner import ModelRunner
from memory3_decoder.parameters import Demand, GenerationRequest, ScoringRequest
from memory3_decoder.session import MemorySession

_RETRY_AFTER_S = 1.0

Tokens = abc.Sequence[abc.Sequence[int]]


@dataclass(frozen=True)
class EngineLimits:
    """How much work is taken on.

    Attributes:
        num_slots: Sequences decoded at the same time.
        queue_size: Sequences that may wait for a slot; as many scoring calls may wait too.
        prefill_tokens: Tokens of prompts read between two steps, a chunk at least.
        prefetch_tokens: Tokens of a chunk with which the next one's memories are looked for; 0 for
            the whole chunk.
        turn_tokens: Tokens after which a sequence leaves its slot to one that waits; 0 for never.
        suspended_bytes: Most bytes of sequences that have left their slots.
    """

    num_slots: int
    queue_size: int
    prefill_tokens: int
    prefetch_tokens: int
    turn_tokens: int
    suspended_bytes: int


class Engine:
    """Generates and scores; use it from one event loop.

    Args:
        runner: The loaded model.
        config: Its configuration.
        tokenizer: The checkpoint's tokenizer.
        limits: How much work is taken on.
        open_session: Makes the memory cycle of a request.
        metrics: Counts.
        prefix_root: What the keys of prompts that are kept hang on; empty where none is kept.
    """

    def __init__(
        self,
        runner: ModelRunner,
        config: ModelConfig,
        tokenizer: Tokenizer,
        limits: EngineLimits,
        open_session: Callable[[GenerationRequest | ScoringRequest], MemorySession],
        metrics: DecoderMetrics,
        prefix_root: str,
    ) -> None:
        turns = Turns(limits.turn_tokens, limits.suspended_bytes)
        self._loop = DecodeLoop(runner, limits.num_slots, limits.prefill_tokens, turns, metrics)
        self._config = config
        self._tokenizer = tokenizer
        self._limits = limits
        self._admission = Admission(
            limits.num_slots, limits.queue_size, self._loop.slots.turnover, metrics
        )
        self._open_session = open_session
        self._metrics = metrics
        self._prefix_root = prefix_root
        self._num_scoring = 0

    @property
    def num_running(self) -> int:
        """Slots in use."""
        return len(self._loop.slots)

    @property
    def num_waiting(self) -> int:
        """Sequences without a slot."""
        return len(self._loop.waiting)

    def start(self, on_defect: Callable[[], None]) -> None:
        """Begin to work.

        Args:
            on_defect: Called if the engine stops by a defect of its own; it takes no more work.
        """
        self._loop.start(on_defect)

    async def close(self) -> None:
        """Stop at once; what is not finished fails as draining."""
        await self._loop.close()

    def check_room(self, demand: Demand, *, caller: str = "") -> None:
        """Refuse now what `generate` would refuse: before a prompt is read that nobody answers.

        Args:
            demand: What would be asked for.
            caller: Who asks; see `generate`.

        Raises:
            QueueFullError: Its choices do not fit into the queue, or would end too late.
            InvalidArgumentError: They would never fit.
            DrainingError: The engine is stopping.
        """
        self._check_open()
        num_before = self._loop.waiting.num_before(caller, demand.num_choices)
        self._admission.check(demand, Line(self.num_running, self.num_waiting, num_before))

    def generate(self, wanted: GenerationRequest, *, caller: str = "") -> EventStream:
        """Put a request into the queue.

        Args:
            wanted: What is asked for.
            caller: Who asks; callers take turns. Empty for a caller of this request alone.

        Raises:
            QueueFullError: Its choices do not fit into the queue, or would end too late.
            InvalidArgumentError: They would never fit.
            DrainingError: The engine is stopping.
        """
        self.check_room(wanted.demand, caller=caller)
        stream = EventStream(lambda: self._loop.leave(request))
        request = Request(
            wanted,
            self._open_session(wanted),
            stream,
            self._tokenizer,
            self._config.eos_id,
            self._config.memory.chunk_length,
            self._limits.prefetch_tokens or self._config.memory.chunk_length,
            self._prefix_root,
            num_open=wanted.sampling.n,
            caller=caller,
        )
        is_long = request.session.is_full(len(wanted.prompt_tokens))
        if not (request.session.reads or is_long):
            request.memories = request.session.without_memories(wanted.prompt_tokens)
        seed = wanted.sampling.seed
        seed = secrets.randbits(64) if seed is None else seed
        for choice in range(wanted.sampling.n):
            self._loop.add(Sequence(request, choice, seed=seed, metrics=self._metrics))
        if wanted.deadline is not None:
            loop = asyncio.get_running_loop()
            # The loop's clock is the monotonic one, as the deadline's is.
            request.timer = loop.call_at(wanted.deadline, self._loop.expire, request)
        return stream

    async def score(self, wanted: ScoringRequest) -> Scores:
        """Score continuations.

        Raises:
            QueueFullError: Too many scoring calls are at work.
            DrainingError: The engine is stopping.
            DeadlineExceededError: The caller's deadline passed.
        """
        self._check_open()
        self._admission.check_scoring(self._num_scoring)
        self._num_scoring += 1
        begun = time.monotonic()
        try:
            session = self._open_session(wanted)
            found = session.without_memories(wanted.prompt_tokens)
            if session.reads:
                found = await session.for_prompt(wanted.prompt_tokens)
            self._check_open()
            done: asyncio.Future[Scores] = asyncio.get_running_loop().create_future()
            chunk_length = self._config.memory.chunk_length
            self._loop.add_job(ScoringJob(wanted, found, chunk_length, done))
            scores = await done
            self._admission.scored(time.monotonic() - begun)
            if scores.degraded_reason:
                self._metrics.degraded.inc()
            return scores
        finally:
            self._num_scoring -= 1

    async def write(self, references: Tokens) -> list[MemoryTensors]:
        """Write memories between the steps of the others.

        Args:
            references: Token ids of each, 1 to the checkpoint's reference length.

        Raises:
            DrainingError: The engine is stopping.
        """
        self._check_open()
        done: asyncio.Future[list[MemoryTensors]] = asyncio.get_running_loop().create_future()
        self._loop.add_writing(WritingJob(references, done))
        return await done

    def _check_open(self) -> None:
        if self._loop.is_closing:
            raise DrainingError(
                "the decoder is shutting down", remedy="try another", retry_after_s=_RETRY_AFTER_S
            )
