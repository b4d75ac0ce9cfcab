"""The model and its cache, and the one thread that touches them.

Everything here is short and synchronous inside that thread, and awaited from outside of it, so the
event loop stays free for health checks and streams while the model works. It must not know
requests, queues or text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from memory3.memory.tensors import MemoryTensors
from memory3.memory.writer import MemoryWriter
from memory3.model.affinity import bind_thread
from memory3.model.cache import SlotCache
from memory3.model.step import StepKind, make_step
from memory3.model.transformer import StepOutput, Transformer
from memory3_decoder.engine.pieces import Piece
from memory3_decoder.engine.prefixes import PrefixStore, PromptChain
from memory3_decoder.sampling import Sampled, SamplingState, sample

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class PrefillJob:
    """A prompt, or a piece of it, to read.

    Attributes:
        slot: A free slot, or that of the pieces before.
        piece: What to read.
        state: Chooses the first token after the last piece.
        report: Measure attention mass.
        chain: What its whole chunks are kept under; None keeps none.
    """

    slot: int
    piece: Piece
    state: SamplingState
    report: bool
    chain: PromptChain | None = None


@dataclass(frozen=True)
class PrefillResult:
    """What a piece of a prompt gives.

    Attributes:
        sampled: The first token of the answer; None unless the piece is the last.
        mass: Attention mass of each memory place, one list for each chunk of the piece; empty where
            no report was asked for.
    """

    sampled: Sampled | None
    mass: list[list[float]]


@dataclass(frozen=True)
class ResumeJob:
    """A suspended sequence to put into a slot.

    Attributes:
        slot: A free slot.
        columns: Its context columns, as they were taken out.
        memories: What it reads.
    """

    slot: int
    columns: Tensor
    memories: Sequence[MemoryTensors]


@dataclass(frozen=True)
class StepRow:
    """One sequence of a decoding step.

    Attributes:
        slot: Its slot.
        token: Its newest token, to be read.
        state: Chooses the next one.
        attach: Memories that replace those of the slot first; None keeps them.
        report: Measure attention mass.
    """

    slot: int
    token: int
    state: SamplingState
    attach: Sequence[MemoryTensors] | None
    report: bool


@dataclass(frozen=True)
class StepResult:
    """What a step gives one sequence.

    Attributes:
        sampled: The next token.
        mass: Attention mass of each memory place; empty where no report was asked for.
    """

    sampled: Sampled
    mass: list[float]


class ModelRunner:
    """Runs prefills and steps one after the other on a thread of its own.

    Args:
        num_threads: Threads torch may use inside one operation.
        cpus: Processors that the thread and torch's are bound to; none leaves it to the system.
    """

    def __init__(self, num_threads: int, cpus: frozenset[int] = frozenset()) -> None:
        def begin() -> None:
            bind_thread(cpus)
            torch.set_num_threads(num_threads)

        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model", initializer=begin)

    async def load(
        self,
        load_model: Callable[[], Transformer],
        *,
        num_slots: int,
        context_length: int,
        num_tokens: int,
        decode_step: StepKind = "eager",
        prefix_bytes: int = 0,
        prefix_root: str = "",
    ) -> None:
        """Load the model, make the cache and run both once, so that the first caller waits for
        nothing.

        Args:
            load_model: Reads the weights.
            num_slots: Sequences decoded at the same time.
            context_length: Most tokens of prompt and output together.
            num_tokens: Tokens of the tokenizer; logits past them are padding and never chosen.
            decode_step: How the operations of a step are launched.
            prefix_bytes: Most bytes of read chunks of prompts to keep; 0 keeps none.
            prefix_root: Digest of the checkpoint.

        Raises:
            SettingsError: The step does not fit the device.
        """

        def load() -> None:
            self._model = load_model().eval()
            self._cache = SlotCache(self._model, num_slots=num_slots, context_length=context_length)
            # Scoring has a slot of its own, so that it never waits for one.
            self._scratch = SlotCache(self._model, num_slots=1, context_length=context_length)
            self._decode = make_step(decode_step, self._model, self._cache)
            self._writer = MemoryWriter(self._model, self._model.config)
            self._num_tokens = num_tokens
            self._prefixes = PrefixStore(prefix_bytes, prefix_root)
            empty = self._tokens(())
            self._model.prefill(self._scratch, 0, empty, all_logits=True, report=True)
            zero = torch.zeros(1, dtype=torch.int64, device=self._model.device)
            self._model.decode(self._scratch, zero, zero, report=True)
            self._scratch.release(0)
            self._decode.prepare()

        await self.run(load)

    async def close(self) -> None:
        """Wait for what is running and end the thread."""
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)

    async def run(self, work: Callable[[], ResultT]) -> ResultT:
        """Run a piece of work on the model's thread."""

        def inference() -> ResultT:
            with torch.inference_mode():
                return work()

        return await asyncio.get_running_loop().run_in_executor(self._thread, inference)

    async def prefill(self, job: PrefillJob) -> PrefillResult:
        """Read a piece of a prompt into a slot and choose the first token after the last."""
        return await self.run(lambda: self._prefill(job))

    @property
    def column_bytes(self) -> int:
        """Bytes of keys and values of one token in all layers."""
        return self._cache.column_bytes

    @property
    def prefix_bytes(self) -> int:
        """Bytes of read chunks of prompts that are kept."""
        return self._prefixes.num_bytes

    async def copy_prefix(self, slot: int, chain: PromptChain, start: int) -> int:
        """Put what is kept of a prompt into its slot, from where it has been read to.

        Args:
            slot: A free slot, or that of the pieces before.
            chain: The prompt.
            start: Tokens of it that the slot holds: whole chunks.

        Returns:
            How many tokens follow that need not be read; fewer than are left.
        """
        if not self._prefixes.num_bytes:
            return 0  # no way to the model's thread and back for nothing
        return await self.run(lambda: self._copy_prefix(slot, chain, start))

    async def suspend(self, slot: int) -> Tensor:
        """Empty a slot; what it held of context, in main memory."""
        return await self.run(lambda: self._suspend(slot))

    async def resume(self, job: ResumeJob) -> None:
        """Put a suspended sequence into a slot; the next step goes on with it."""
        await self.run(lambda: self._resume(job))

    async def step(self, rows: Sequence[StepRow]) -> list[StepResult]:
        """Read one token of each sequence and choose its next; rows are in the order of slots."""
        return await self.run(lambda: self._step(rows))

    async def score(self, piece: Piece, targets: Sequence[int]) -> tuple[list[float], bool]:
        """Log-probabilities of tokens that a piece predicts, and whether all were the likeliest.

        The pieces of one text must come one after the other, without those of another in between.

        Args:
            piece: What to read.
            targets: The tokens after each of the last of the piece; none where nothing is scored.
        """
        return await self.run(lambda: self._score(piece, targets))

    async def write(self, reference: Sequence[int]) -> MemoryTensors:
        """Write one memory; only the memory layers run.

        Args:
            reference: Its tokens, without prefix.
        """
        return await self.run(lambda: self._writer.write([reference])[0])

    def _prefill(self, job: PrefillJob) -> PrefillResult:
        output = self._read(self._cache, job.slot, job.piece, report=job.report)
        mass: list[list[float]] = [] if output.mass is None else output.mass.tolist()
        if job.chain is not None:
            self._keep(job.slot, job.piece, job.chain)
        if not job.piece.is_last:
            return PrefillResult(None, mass)
        (sampled,) = sample(output.logits[:, : self._num_tokens], [job.state])
        return PrefillResult(sampled, mass)

    def _keep(self, slot: int, piece: Piece, chain: PromptChain) -> None:
        """Keep the whole chunks of a piece that has just been read to its end."""
        size = chain.chunk_length

        def copy(number: int) -> Tensor:
            # The separator before the prompt is a column too, and goes with the first chunk.
            start = number * size + 1 if number else 0
            return self._cache.copy_context(slot, start, (number + 1) * size + 1)

        self._prefixes.keep(chain, piece.start // size, piece.stop // size, copy)

    def _copy_prefix(self, slot: int, chain: PromptChain, start: int) -> int:
        chunks = self._prefixes.find(chain, start // chain.chunk_length)
        if not chunks:
            return 0
        if not start:
            self._cache.release(slot)
        self._cache.paste_context(slot, start + 1 if start else 0, torch.cat(chunks, dim=3))
        return len(chunks) * chain.chunk_length

    def _suspend(self, slot: int) -> Tensor:
        columns = self._cache.copy_context(slot, 0, int(self._cache.lengths[slot])).cpu()
        self._cache.release(slot)
        return columns

    def _resume(self, job: ResumeJob) -> None:
        self._cache.attach(job.slot, job.memories)
        self._cache.paste_context(job.slot, 0, job.columns)

    def _step(self, rows: Sequence[StepRow]) -> list[StepResult]:
        self._cache.attach_many({row.slot: row.attach for row in rows if row.attach is not None})
        output = self._decode(
            [row.slot for row in rows],
            [row.token for row in rows],
            report=any(row.report for row in rows),
        )
        sampled = sample(output.logits[:, : self._num_tokens], [row.state for row in rows])
        masses = [] if output.mass is None else output.mass.tolist()
        return [
            StepResult(choice, masses[index] if row.report and masses else [])
            for index, (choice, row) in enumerate(zip(sampled, rows, strict=True))
        ]

    def _score(self, piece: Piece, targets: Sequence[int]) -> tuple[list[float], bool]:
        output = self._read(self._scratch, 0, piece, all_logits=bool(targets))
        if not targets:
            return [], True
        rows = torch.log_softmax(output.logits[-len(targets) :, : self._num_tokens], dim=-1)
        wanted = self._tokens(targets)
        logprobs: list[float] = rows.gather(1, wanted[:, None])[:, 0].tolist()
        return logprobs, bool((rows.argmax(dim=-1) == wanted).all())

    def _read(
        self,
        cache: SlotCache,
        slot: int,
        piece: Piece,
        *,
        all_logits: bool = False,
        report: bool = False,
    ) -> StepOutput:
        if not piece.start:
            cache.release(slot)
        return self._model.prefill(
            cache,
            slot,
            self._tokens(piece.tokens),
            piece.chunk_memories,
            resume=piece.start > 0,
            all_logits=all_logits,
            report=report,
        )

    def _tokens(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._model.device)
