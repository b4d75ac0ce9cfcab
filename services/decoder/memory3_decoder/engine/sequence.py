"""One choice of one request: its tokens, its memories and how it ends.

A generated token is read under the memories of its own chunk. Chunk g of the output is the
generated tokens 64·g to 64·g + 63 (paper §4); its memories are looked for as soon as the last
token of the chunk before is known, or an earlier one where the request's ``query_length`` says so,
while that token itself is still being read under the old ones, and must be there before the first
token of chunk g is read.
"""

from __future__ import annotations

import asyncio
import time

from memory3.memory.tensors import MemoryTensors
from memory3.observability import tracing
from memory3_decoder.engine.chunks import ChunkRecord
from memory3_decoder.engine.pieces import Pieces
from memory3_decoder.engine.request import Request
from memory3_decoder.events import Event, Finished, Usage
from memory3_decoder.metrics import DecoderMetrics
from memory3_decoder.model.jobs import (
    PrefillJob,
    PrefillResult,
    ResumeJob,
    StepResult,
    StepRow,
    Suspended,
)
from memory3_decoder.model.prefixes import PromptChain
from memory3_decoder.sampling import Sampled, SamplingStart
from memory3_decoder.session import Memories, PromptMemories, Refresh
from memory3_decoder.text import ChoiceText


class Sequence:
    """A sequence from the queue to its end; used from the event loop only.

    Attributes:
        request: The request it is a choice of.
        session: Its memory cycle.
        slot: The slot it holds; None while it waits for one.
        refreshing: The running search for the next chunk's memories.
        moving: What is done when its window is full, while it runs.
        suspended: What it had in its slot, while it waits for one again; else None.

    Args:
        request: The request it is a choice of.
        choice: Number of the choice.
        seed: Seed of the request.
        metrics: Counts.
    """

    def __init__(
        self, request: Request, choice: int, *, seed: int, metrics: DecoderMetrics
    ) -> None:
        self.request = request
        self.slot: int | None = None
        self.refreshing: asyncio.Task[Refresh] | None = None
        self.moving: asyncio.Task[PromptMemories] | None = None
        self.suspended: Suspended | None = None
        self.session = request.session
        wanted = request.wanted
        end_ids = set(wanted.sampling.stop_token_ids)
        if not wanted.sampling.ignore_eos:
            end_ids.add(request.eos_id)
        self._choice = choice
        # Beside the model from the first token on, and None here.
        self._sampling: SamplingStart | None = SamplingStart(
            parameters=wanted.sampling,
            seed=seed,
            choice=choice,
            prompt_tokens=wanted.prompt_tokens,
            end_ids=sorted(end_ids),
        )
        self._text = ChoiceText(
            choice,
            request.tokenizer,
            prompt_tokens=wanted.prompt_tokens,
            sampling=wanted.sampling,
            max_tokens=wanted.max_tokens,
            end_ids=end_ids,
        )
        self._chunks = ChunkRecord(choice, keeps_text=wanted.memory.session is None)
        self._metrics = metrics
        self._pieces: Pieces | None = None
        self._chain: PromptChain | None = None
        # What is read in one go, a prompt or what stays when a window is full, and what follows.
        self._window = PromptMemories(())
        self._is_read = False
        self._num_before = 0  # tokens generated before that
        self._prompt_mass: list[list[float]] = []
        self._num_chunks_begun = 0
        self._memories: Memories = ()
        self._next_memories: Memories | None = None
        self._degraded_reason = ""
        self._num_retrievals = 0
        self._num_before_turn = 0  # tokens generated before it got its slot
        self._suspended_at = 0.0
        self._begun_at = 0.0
        self._first_token_at = 0.0
        self._last_token_at = 0.0

    @property
    def is_finished(self) -> bool:
        """Whether its last token has come."""
        return self._text.reason is not None

    @property
    def is_read(self) -> bool:
        """Whether its prompt, or what stays of a full window, has been read to the end."""
        return self._is_read

    @property
    def num_unread(self) -> int:
        """Tokens of its prompt that are still to be read."""
        if self._pieces is None:
            return len(self.request.wanted.prompt_tokens)
        return self._pieces.num_left

    @property
    def was_suspended(self) -> bool:
        """Whether it has left a slot before."""
        return self._suspended_at > 0

    @property
    def num_in_turn(self) -> int:
        """Tokens generated since it got its slot; 0 while it must not lose it."""
        if not self._is_read or self.moving is not None or self.request.is_over:
            return 0
        return len(self._text.tokens) - self._num_before_turn

    @property
    def awaits_memories(self) -> bool:
        """Whether the next token belongs to a chunk whose memories are still looked for."""
        return self.moving is not None or (self.refreshing is not None and self._chunk_is_due)

    @property
    def wants_move(self) -> bool:
        """Whether the window is full and a token will be read."""
        return not self.is_finished and self.session.is_full(len(self.window_tokens))

    @property
    def window_tokens(self) -> list[int]:
        """The tokens in the window, those not read yet included."""
        return [*self.request.wanted.prompt_tokens, *self._text.tokens][self._window.start :]

    @property
    def window_start(self) -> int:
        """Offset of the first of them from the start of the prompt."""
        return self._window.start

    @property
    def wants_refresh(self) -> bool:
        """Whether a chunk has just become long enough to search with, and will be outlived."""
        size, num_tokens = self.request.chunk_length, len(self._text.tokens)
        num_missing = size - self.request.query_length
        return (
            not self.is_finished
            and self.session.refreshes
            and (num_tokens + num_missing - self._num_before) % size == 0
            and num_tokens + num_missing + 1 < self.request.wanted.max_tokens
        )

    @property
    def query_tokens(self) -> list[int]:
        """The tokens of the chunk that has just become long enough to search with."""
        return self._text.tokens[-self.request.query_length :]

    def begin(self, slot: int) -> None:
        """Take a slot; the prompt's memories are there."""
        self.slot = slot
        self._begun_at = time.perf_counter()
        self._record("queue", self.request.arrived, self._begun_at)
        self.session = self.request.session.fork()
        self._begin_window(self._found)

    def suspend(self, suspended: Suspended) -> None:
        """Give the slot back, and keep what is needed to go on in another."""
        self.slot, self.suspended = None, suspended
        self._suspended_at = time.perf_counter()
        self._metrics.preemptions.inc()

    def resume(self, slot: int) -> ResumeJob:
        """Take a slot again: what must be put into it, as if the sequence had never left."""
        if self.suspended is None:
            raise AssertionError("a sequence that was not suspended cannot be resumed")
        job = ResumeJob(slot, self.suspended.number, _tensors(self._memories))
        self.slot, self.suspended = slot, None
        self._num_before_turn = len(self._text.tokens)
        self._record("suspended", self._suspended_at, time.perf_counter())
        return job

    def moved(self, found: PromptMemories) -> None:
        """Go on in a window from which text has left; what stays is read anew, as a prompt is."""
        self.moving = None
        self._begin_window(found)

    def _begin_window(self, found: PromptMemories) -> None:
        self._window = found
        self._is_read = False
        self._num_before = len(self._text.tokens)
        self._num_chunks_begun = 0
        self._prompt_mass = []
        self._degraded_reason = self._degraded_reason or found.degraded_reason
        self._num_retrievals += found.num_retrievals
        self._memories, self._next_memories = found.inherited, None
        tokens, size = self.window_tokens, self.request.chunk_length
        # An empty prompt still has the separator, which reads as the first chunk does.
        memories = [_tensors(memories) for memories in found.chunks or (found.inherited,)]
        self._pieces = Pieces(tokens, memories, size)
        wanted = self.request.wanted
        root = self.request.prefix_root
        if root and wanted.memory.session is None:  # the memories of a session are its own
            self._chain = PromptChain.of(root, wanted.bank, tokens, memories, size)

    def next_piece(self, budget: int) -> PrefillJob | None:
        """The next piece of the prompt; None where none fits into so many tokens."""
        if self.slot is None or self._pieces is None:
            raise AssertionError("a sequence without a slot cannot be read")
        piece = self._pieces.take(budget)
        if piece is None:
            return None
        report = self.request.wanted.memory.report
        return PrefillJob(self.slot, piece, self._sampling, report, self._chain)

    def wanted_prefix(self) -> tuple[int, PromptChain, int] | None:
        """Its slot, its prompt and how far that is read; None where all of it is to be read.

        A report measures every chunk while it is read, so nothing is passed over for one.
        """
        if self.slot is None or self._pieces is None:
            raise AssertionError("a sequence without a slot cannot be read")
        if self._chain is None or self.request.wanted.memory.report:
            return None
        return self.slot, self._chain, self._pieces.start

    def prefix_copied(self, num_tokens: int) -> None:
        """Take in that tokens need not be read."""
        if self._pieces is None:
            raise AssertionError("a sequence without a slot cannot be read")
        self._pieces.skip(num_tokens)
        self._metrics.prompt_tokens.inc(num_tokens)
        self._metrics.prefix_tokens.labels("hit").inc(num_tokens)

    def piece_read(self, job: PrefillJob, result: PrefillResult) -> list[Event]:
        """Take in what a piece gave; the events that follow from it once the prompt is read."""
        self._prompt_mass += result.mass
        self._metrics.prompt_tokens.inc(len(job.piece.tokens))
        self._metrics.prefix_tokens.labels("read").inc(len(job.piece.tokens))
        if result.sampled is None:
            return []
        self._is_read, self._sampling = True, None
        events: list[Event] = []
        mass = self._prompt_mass
        for number, memories in enumerate(self._window.chunks):
            offset = self._window.start + number * self.request.chunk_length
            self._open(events, offset, memories, mass[number:])
        self._begin_chunk(events)
        self._take(events, result.sampled)
        return events

    def begin_step(self) -> tuple[StepRow, list[Event]]:
        """The sequence's part of a step, and the event of the chunk that begins with it."""
        if self.slot is None:
            raise AssertionError("a sequence without a slot cannot step")
        events: list[Event] = []
        attach: list[MemoryTensors] | None = None
        if self._chunk_is_due:
            # Not before: the last token of a chunk is read under that chunk's own memories, however
            # early those of the next one came.
            if self._next_memories is not None:
                self._memories, self._next_memories = self._next_memories, None
                attach = _tensors(self._memories)
            self._begin_chunk(events)
        report = self.request.wanted.memory.report
        row = StepRow(self.slot, self._text.tokens[-1], attach, report)
        return row, events

    def stepped(self, result: StepResult) -> list[Event]:
        """Take in what a step gave; the events that follow from it."""
        events: list[Event] = []
        if result.mass and self.session.reads:
            self._chunks.measure(result.mass)
        self._take(events, result.sampled)
        return events

    def refreshed(self, refresh: Refresh) -> None:
        """Take in the memories of the next chunk."""
        self._num_retrievals += refresh.num_retrievals
        self._degraded_reason = self._degraded_reason or refresh.degraded_reason
        self._next_memories = refresh.memories

    def stop_refreshing(self) -> None:
        """End what nobody waits for any more."""
        if self.moving is not None:
            self.moving.cancel()
            self.moving = None
        if self.refreshing is not None:
            self.refreshing.cancel()
            self.refreshing = None

    @property
    def _found(self) -> PromptMemories:
        if self.request.memories is None:
            raise AssertionError("a sequence began before its memories were there")
        return self.request.memories

    @property
    def _chunk_is_due(self) -> bool:
        """Whether the token to be read next is the first of a chunk."""
        num_tokens = len(self._text.tokens) - self._num_before
        return num_tokens > self._num_chunks_begun * self.request.chunk_length

    def _begin_chunk(self, events: list[Event]) -> None:
        offset = self._num_before + self._num_chunks_begun * self.request.chunk_length
        self._open(events, len(self.request.wanted.prompt_tokens) + offset, self._memories, [])
        self._num_chunks_begun += 1

    def _open(
        self, events: list[Event], start_token: int, memories: Memories, mass: list[list[float]]
    ) -> None:
        if not self.session.reads:
            return
        events.append(self._chunks.open(start_token, memories))
        self._metrics.memories_attached.inc(len(memories))
        if mass:
            self._chunks.measure(mass[0])

    def _take(self, events: list[Event], sampled: Sampled) -> None:
        self._count_time()
        delta = self._text.push(sampled.token, sampled.logprob)
        if delta is not None:
            events.append(delta)
        if self._text.reason is not None:
            self.stop_refreshing()
            events.append(self._finished())

    def _finished(self) -> Finished:
        if self._text.reason is None:
            raise AssertionError("a sequence that goes on has no end to tell of")
        arrived = self.request.arrived
        usage = Usage(
            prompt_tokens=len(self.request.wanted.prompt_tokens),
            completion_tokens=len(self._text.tokens),
            memories_attached=self._chunks.num_memories,
            retrievals=self._num_retrievals,
            time_to_first_token_s=self._first_token_at - arrived,
            total_time_s=self._last_token_at - arrived,
            session_memories=self.session.num_written,
        )
        self._metrics.success.labels(self._text.reason.value).inc()
        self._metrics.e2e.observe(usage.total_time_s)
        if self._degraded_reason:
            self._metrics.degraded.inc()
        self._record(
            "decode",
            self._first_token_at,
            self._last_token_at,
            completion_tokens=usage.completion_tokens,
            finish_reason=self._text.reason.value,
            memories_attached=usage.memories_attached,
            retrievals=usage.retrievals,
            degraded=bool(self._degraded_reason),
        )
        return Finished(
            self._choice,
            self._text.reason,
            usage,
            self._chunks.report(),
            self._degraded_reason,
            self._text.stop,
        )

    def _count_time(self) -> None:
        now = time.perf_counter()
        if self._first_token_at:
            self._metrics.inter_token.observe(now - self._last_token_at)
        else:
            self._first_token_at = now
            self._metrics.time_to_first_token.observe(now - self.request.arrived)
            num_read = len(self.request.wanted.prompt_tokens)
            self._record("prefill", self._begun_at, now, prompt_tokens=num_read)
        self._last_token_at = now
        self._metrics.generation_tokens.inc()

    def _record(
        self, stage: str, started: float, ended: float, **attributes: tracing.Attribute
    ) -> None:
        """Note a stage of this choice in the trace, between two times on ``perf_counter``."""
        span = self.request.span
        tracing.record(f"decoder.{stage}", started, ended, span, choice=self._choice, **attributes)


def _tensors(memories: Memories) -> list[MemoryTensors]:
    return [memory.tensors for memory in memories]
