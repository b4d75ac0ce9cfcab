"""The model, its cache and what is remembered of the sequences in its slots; used from one thread.

Everything here is short and synchronous. What is asked for and answered are the plain values of
``jobs``, so that it makes no difference in which process it runs. It must not know requests, queues
or text.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memory3.checkpoint import Checkpoint
from memory3.memory.tensors import MemoryTensors
from memory3.memory.writer import MemoryWriter
from memory3.model.cache import SlotCache
from memory3.model.step import make_step
from memory3.model.transformer import StepOutput
from memory3_decoder.model.jobs import (
    ModelPlan,
    Piece,
    PrefillJob,
    PrefillResult,
    ResumeJob,
    StepResult,
    StepRow,
)
from memory3_decoder.model.prefixes import PrefixStore, PromptChain
from memory3_decoder.sampling import SamplingState, sample


class ModelWorker:
    """Does what the runner asks for, one thing after the other.

    Public methods are what can be asked; their annotations say how it crosses to another process.
    """

    @torch.inference_mode()
    def load(self, plan: ModelPlan) -> int:
        """Load the model, make the cache and run both once, so that the first caller waits for
        nothing.

        Returns:
            Bytes of keys and values of one token in all layers.

        Raises:
            SettingsError: The step does not fit the device.
            CheckpointError: The weights cannot be used.
        """
        model = Checkpoint.open(plan.checkpoint, verify=False).load_model(
            dtype=getattr(torch, plan.dtype),
            device=plan.device,
            packed=True,
            weights=plan.weights,
            row_bytes=plan.row_bytes,
        )
        self.model = model.eval()
        length = plan.context_length
        self._cache = SlotCache(model, num_slots=plan.num_slots, context_length=length)
        # Scoring has a slot of its own, so that it never waits for one.
        self._scratch = SlotCache(model, num_slots=1, context_length=length)
        self._decode = make_step(plan.decode_step, model, self._cache)
        self._writer = MemoryWriter(model, model.config)
        self._num_tokens = plan.num_tokens
        self._prefixes = PrefixStore(plan.prefix_bytes)
        self._states: dict[int, SamplingState] = {}
        self._suspended: dict[int, tuple[Tensor, SamplingState]] = {}
        model.prefill(self._scratch, 0, self._tokens(()), all_logits=True, report=True)
        zero = torch.zeros(1, dtype=torch.int64, device=model.device)
        model.decode(self._scratch, zero, zero, report=True)
        self._scratch.release(0)
        self._decode.prepare()
        return self._cache.column_bytes

    @torch.inference_mode()
    def prefill(self, job: PrefillJob) -> PrefillResult:
        """Read a piece of a prompt into a slot and choose the first token after the last."""
        output = self._read(self._cache, job.slot, job.piece, report=job.report)
        mass: list[list[float]] = [] if output.mass is None else output.mass.tolist()
        if job.chain is not None:
            self._keep(job.slot, job.piece, job.chain)
        sampled = None
        if job.piece.is_last:
            if job.sampling is not None:
                self._states[job.slot] = SamplingState(job.sampling)
            state = self._states[job.slot]
            (sampled,) = sample(output.logits[:, : self._num_tokens], [state])
        return PrefillResult(sampled, mass, self._prefixes.num_bytes)

    @torch.inference_mode()
    def copy_prefix(self, slot: int, chain: PromptChain, start: int) -> int:
        """Put what is kept of a prompt into its slot, from where it has been read to.

        Args:
            slot: A free slot, or that of the pieces before.
            chain: The prompt.
            start: Tokens of it that the slot holds: whole chunks.

        Returns:
            How many tokens follow that need not be read; fewer than are left.
        """
        chunks = self._prefixes.find(chain, start // chain.chunk_length)
        if not chunks:
            return 0
        if not start:
            self._cache.release(slot)
        self._cache.paste_context(slot, start + 1 if start else 0, torch.cat(chunks, dim=3))
        return len(chunks) * chain.chunk_length

    @torch.inference_mode()
    def suspend(self, slot: int, number: int) -> int:
        """Empty a slot, and keep what it held under a number, in main memory; its bytes."""
        columns = self._cache.copy_context(slot, 0, int(self._cache.lengths[slot])).cpu()
        self._cache.release(slot)
        self._suspended[number] = columns, self._states.pop(slot)
        return columns.nbytes

    @torch.inference_mode()
    def resume(self, job: ResumeJob) -> None:
        """Put a suspended sequence into a slot; the next step goes on with it."""
        columns, self._states[job.slot] = self._suspended.pop(job.number)
        self._cache.attach(job.slot, job.memories)
        self._cache.paste_context(job.slot, 0, columns)

    def forget(self, number: int) -> None:
        """Drop a suspended sequence that will not be resumed."""
        self._suspended.pop(number, None)

    @torch.inference_mode()
    def step(self, rows: Sequence[StepRow]) -> list[StepResult]:
        """Read one token of each sequence and choose its next; rows are in the order of slots."""
        self._cache.attach_many({row.slot: row.attach for row in rows if row.attach is not None})
        output = self._decode(
            [row.slot for row in rows],
            [row.token for row in rows],
            report=any(row.report for row in rows),
        )
        states = [self._states[row.slot] for row in rows]
        sampled = sample(output.logits[:, : self._num_tokens], states)
        masses = [] if output.mass is None else output.mass.tolist()
        return [
            StepResult(choice, masses[index] if row.report and masses else [])
            for index, (choice, row) in enumerate(zip(sampled, rows, strict=True))
        ]

    @torch.inference_mode()
    def score(self, piece: Piece, targets: Sequence[int]) -> tuple[list[float], bool]:
        """Log-probabilities of tokens that a piece predicts, and whether all were the likeliest.

        The pieces of one text must come one after the other, without those of another in between.

        Args:
            piece: What to read.
            targets: The tokens after each of the last of the piece; none where nothing is scored.
        """
        output = self._read(self._scratch, 0, piece, all_logits=bool(targets))
        if not targets:
            return [], True
        rows = torch.log_softmax(output.logits[-len(targets) :, : self._num_tokens], dim=-1)
        wanted = self._tokens(targets)
        logprobs: list[float] = rows.gather(1, wanted[:, None])[:, 0].tolist()
        return logprobs, bool((rows.argmax(dim=-1) == wanted).all())

    @torch.inference_mode()
    def write(self, reference: Sequence[int]) -> MemoryTensors:
        """Write one memory; only the memory layers run.

        Args:
            reference: Its tokens, without prefix.
        """
        return self._writer.write([reference])[0]

    def _keep(self, slot: int, piece: Piece, chain: PromptChain) -> None:
        """Keep the whole chunks of a piece that has just been read to its end."""
        size = chain.chunk_length

        def copy(number: int) -> Tensor:
            # The separator before the prompt is a column too, and goes with the first chunk.
            start = number * size + 1 if number else 0
            return self._cache.copy_context(slot, start, (number + 1) * size + 1)

        self._prefixes.keep(chain, piece.start // size, piece.stop // size, copy)

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
        return self.model.prefill(
            cache,
            slot,
            self._tokens(piece.tokens),
            piece.chunk_memories,
            resume=piece.start > 0,
            all_logits=all_logits,
            report=report,
        )

    def _tokens(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self.model.device)
