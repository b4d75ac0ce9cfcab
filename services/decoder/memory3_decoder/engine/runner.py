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
from memory3.model.cache import SlotCache
from memory3.model.transformer import Transformer
from memory3_decoder.sampling import Sampled, SamplingState, sample

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class PrefillJob:
    """A prompt to read.

    Attributes:
        slot: A free slot.
        tokens: Tokens of the prompt.
        chunk_memories: What each chunk reads; one list for an empty prompt.
        state: Chooses the first token.
        report: Measure attention mass.
    """

    slot: int
    tokens: Sequence[int]
    chunk_memories: Sequence[Sequence[MemoryTensors]]
    state: SamplingState
    report: bool


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
    """What a prefill or a step gives one sequence.

    Attributes:
        sampled: The next token.
        mass: Attention mass of each memory place, one list for each chunk of a prompt and one for
            a step; empty where no report was asked for.
    """

    sampled: Sampled
    mass: list[list[float]]


class ModelRunner:
    """Runs prefills and steps one after the other on a thread of its own.

    Args:
        num_threads: Threads torch may use inside one operation.
    """

    def __init__(self, num_threads: int) -> None:
        self._thread = ThreadPoolExecutor(
            1,
            thread_name_prefix="model",
            initializer=torch.set_num_threads,
            initargs=(num_threads,),
        )

    async def load(
        self,
        load_model: Callable[[], Transformer],
        *,
        num_slots: int,
        context_length: int,
        num_tokens: int,
    ) -> None:
        """Load the model, make the cache and run both once, so that the first caller waits for
        nothing.

        Args:
            load_model: Reads the weights.
            num_slots: Sequences decoded at the same time.
            context_length: Most tokens of prompt and output together.
            num_tokens: Tokens of the tokenizer; logits past them are padding and never chosen.
        """

        def load() -> None:
            self._model = load_model().eval()
            self._cache = SlotCache(self._model, num_slots=num_slots, context_length=context_length)
            # Scoring has a slot of its own, so that it never waits for one.
            self._scratch = SlotCache(self._model, num_slots=1, context_length=context_length)
            self._num_tokens = num_tokens
            empty = self._tokens(())
            self._model.prefill(self._scratch, 0, empty, all_logits=True, report=True)
            zero = torch.zeros(1, dtype=torch.int64, device=self._model.device)
            self._model.decode(self._scratch, zero, zero, report=True)
            self._scratch.release(0)

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

    async def prefill(self, job: PrefillJob) -> StepResult:
        """Read a prompt into a slot and choose the first token."""
        return await self.run(lambda: self._prefill(job))

    async def step(self, rows: Sequence[StepRow]) -> list[StepResult]:
        """Read one token of each sequence and choose its next; rows are in the order of slots."""
        return await self.run(lambda: self._step(rows))

    async def score(
        self,
        prompt: Sequence[int],
        continuation: Sequence[int],
        chunk_memories: Sequence[Sequence[MemoryTensors]],
    ) -> tuple[list[float], bool]:
        """Log-probabilities of a continuation's tokens, and whether all were the likeliest.

        Args:
            prompt: Tokens before it.
            continuation: At least one token.
            chunk_memories: What each chunk of prompt and continuation reads.
        """
        return await self.run(lambda: self._score(prompt, continuation, chunk_memories))

    def _prefill(self, job: PrefillJob) -> StepResult:
        self._cache.release(job.slot)
        output = self._model.prefill(
            self._cache, job.slot, self._tokens(job.tokens), job.chunk_memories, report=job.report
        )
        (sampled,) = sample(output.logits[:, : self._num_tokens], [job.state])
        mass: list[list[float]] = [] if output.mass is None else output.mass.tolist()
        return StepResult(sampled, mass)

    def _step(self, rows: Sequence[StepRow]) -> list[StepResult]:
        for row in rows:
            if row.attach is not None:
                self._cache.attach(row.slot, row.attach)
        output = self._model.decode(
            self._cache,
            self._tokens([row.slot for row in rows]),
            self._tokens([row.token for row in rows]),
            report=any(row.report for row in rows),
        )
        sampled = sample(output.logits[:, : self._num_tokens], [row.state for row in rows])
        masses = [] if output.mass is None else output.mass.tolist()
        return [
            StepResult(choice, [masses[index]] if row.report and masses else [])
            for index, (choice, row) in enumerate(zip(sampled, rows, strict=True))
        ]

    def _score(
        self,
        prompt: Sequence[int],
        continuation: Sequence[int],
        chunk_memories: Sequence[Sequence[MemoryTensors]],
    ) -> tuple[list[float], bool]:
        # Row i of the logits predicts token i, so the last token itself is not read.
        read = [*prompt, *continuation[:-1]]
        num_chunks = self._model.layout.num_chunks(len(read))
        output = self._model.prefill(
            self._scratch, 0, self._tokens(read), chunk_memories[:num_chunks], all_logits=True
        )
        self._scratch.release(0)
        rows = torch.log_softmax(output.logits[len(prompt) :, : self._num_tokens], dim=-1)
        targets = self._tokens(continuation)
        logprobs: list[float] = rows.gather(1, targets[:, None])[:, 0].tolist()
        return logprobs, bool((rows.argmax(dim=-1) == targets).all())

    def _tokens(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._model.device)
