"""What the model is asked for and what it answers, as plain values that can cross to its process.

Tensors stand in here only as those of memories; everything else is numbers, text and lists. It must
not know requests, queues or streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memory3.memory.tensors import MemoryTensors
from memory3.model.placement import Weights
from memory3.model.step import StepKind
from memory3_decoder.model.prefixes import PromptChain
from memory3_decoder.sampling import Sampled, SamplingStart


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """What is loaded, and how.

    Attributes:
        checkpoint: The checkpoint directory, verified already.
        dtype: Number format of weights and cache, by torch's name.
        device: Where the model runs.
        weights: Full or eight bits.
        row_bytes: Most bytes of second copies of weights for steps of one sequence.
        num_slots: Sequences decoded at the same time.
        context_length: Most tokens of prompt and output together.
        num_tokens: Tokens of the tokenizer; logits past them are padding and never chosen.
        decode_step: How the operations of a step are launched.
        prefix_bytes: Most bytes of read chunks of prompts to keep; 0 keeps none.
    """

    checkpoint: str
    dtype: str
    device: str
    weights: Weights
    row_bytes: int
    num_slots: int
    context_length: int
    num_tokens: int
    decode_step: StepKind
    prefix_bytes: int


@dataclass(frozen=True)
class Piece:
    """Some tokens of a prompt that are read in one pass.

    Attributes:
        start: Tokens of the prompt before it.
        tokens: Its own; none only where the whole prompt is empty.
        chunk_memories: What each of its chunks reads; one list for an empty prompt.
        is_last: Whether the prompt ends with it.
    """

    start: int
    tokens: Sequence[int]
    chunk_memories: Sequence[Sequence[MemoryTensors]]
    is_last: bool

    @property
    def stop(self) -> int:
        """Tokens of the prompt that are read after it."""
        return self.start + len(self.tokens)

    @property
    def cost(self) -> int:
        """What it takes of a budget of tokens; an empty prompt is not free."""
        return max(1, len(self.tokens))


@dataclass(frozen=True)
class PrefillJob:
    """A prompt, or a piece of it, to read.

    Attributes:
        slot: A free slot, or that of the pieces before.
        piece: What to read.
        sampling: How the first token after the last piece and those after it are chosen; None
            where the sequence in the slot goes on after its window was read anew.
        report: Measure attention mass.
        chain: What its whole chunks are kept under; None keeps none.
    """

    slot: int
    piece: Piece
    sampling: SamplingStart | None
    report: bool
    chain: PromptChain | None = None


@dataclass(frozen=True)
class PrefillResult:
    """What a piece of a prompt gives.

    Attributes:
        sampled: The first token of the answer; None unless the piece is the last.
        mass: Attention mass of each memory place, one list for each chunk of the piece; empty where
            no report was asked for.
        prefix_bytes: Bytes of read chunks of prompts that are kept by now.
    """

    sampled: Sampled | None
    mass: list[list[float]]
    prefix_bytes: int


@dataclass(frozen=True)
class ResumeJob:
    """A suspended sequence to put into a slot.

    Attributes:
        slot: A free slot.
        number: Its number; see `Suspended`.
        memories: What it reads.
    """

    slot: int
    number: int
    memories: Sequence[MemoryTensors]


@dataclass(frozen=True)
class Suspended:
    """What a sequence had in its slot, kept beside the model until it is resumed or forgotten.

    Attributes:
        number: What it is kept under.
        nbytes: Bytes of main memory that it takes.
    """

    number: int
    nbytes: int


@dataclass(frozen=True)
class StepRow:
    """One sequence of a decoding step.

    Attributes:
        slot: Its slot.
        token: Its newest token, to be read.
        attach: Memories that replace those of the slot first; None keeps them.
        report: Measure attention mass.
    """

    slot: int
    token: int
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
