"""Memories as a quantiser sees them: written in batches, and what reading them is worth.

Source: paper §5. Shapes: V memories, L memory layers, K KV heads, N tokens kept, D head dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memory3.codecs.base import Codec, Shape
from memory3.memory.writer import MemoryWriter
from memory3.model.transformer import LayerMemory, Transformer
from memory3_trainer.batches import pad
from memory3_trainer.reading import read_context

_BATCH = 32


@dataclass(frozen=True)
class WrittenMemories:
    """Memories side by side.

    Attributes:
        references: Token ids of each.
        key_values: float32 [V, L, 2, K, N, D], on the processor.
        num_kept: Valid tokens of each, [V].
    """

    references: list[list[int]]
    key_values: Tensor
    num_kept: Tensor

    @property
    def shape(self) -> Shape:
        """Of one memory."""
        L, pair, K, N, D = self.key_values.shape[1:]
        return (L, pair, K, N, D)


def write_memories(
    writer: MemoryWriter,
    references: Sequence[list[int]],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> WrittenMemories:
    """Write references as the encoder does, those of a length together.

    Args:
        writer: Of the checkpoint.
        references: Token ids of each.
        progress: Told how many of how many are written.
    """
    ordered = sorted(references, key=len)
    key_values = torch.empty(0)
    kept: list[int] = []
    for start in range(0, len(ordered), _BATCH):
        for memory in writer.write(ordered[start : start + _BATCH]):
            stacked = torch.stack((memory.keys, memory.values), dim=1)
            if not kept:
                key_values = torch.empty(len(ordered), *stacked.shape)
            key_values[len(kept)] = stacked
            kept.append(memory.num_kept)
        progress(len(kept), len(ordered))
    return WrittenMemories(ordered, key_values, torch.tensor(kept))


def through_codec(memories: WrittenMemories, codec: Codec) -> WrittenMemories:
    """The same memories, encoded and decoded; what a short reference leaves empty stays zero."""
    cpu = torch.device("cpu")
    decoded = [
        codec.decode(codec.encode(item), memories.shape, dtype=torch.float32, device=cpu)
        for item in memories.key_values
    ]
    valid = _valid(memories)[:, None, None, None, :, None]
    return WrittenMemories(
        memories.references, torch.stack(decoded).masked_fill(~valid, 0), memories.num_kept
    )


def relative_errors(exact: WrittenMemories, decoded: WrittenMemories) -> dict[str, float]:
    """Squared error of keys and of values, as a share of their squared length."""
    over = (0, 1, 3, 4, 5)
    error = (exact.key_values - decoded.key_values).square().sum(over)
    share = error / exact.key_values.square().sum(over)
    return {"key": float(share[0]), "value": float(share[1])}


@torch.inference_mode()
def reading_loss(model: Transformer, memories: WrittenMemories, *, attach: bool = True) -> float:
    """Loss of predicting every reference while its own memory is attached.

    What a memory says of its text is what a codec could lose, so this is where it would show.

    Args:
        model: What reads.
        memories: What is read.
        attach: False predicts without any memory.
    """
    config, total, count = model.config, 0.0, 0
    for start in range(0, len(memories.references), _BATCH):
        part = slice(start, start + _BATCH)
        rows = [[config.separator_id, *ids] for ids in memories.references[part]]
        context = pad(rows).to(model.device)
        attached = _columns(memories, part, model) if attach else []
        hidden = read_context(model, context, torch.zeros_like(context), attached)
        logits = model.logits(hidden[:, :-1]).float()
        lengths = torch.tensor([len(row) - 1 for row in rows], device=context.device)
        valid = torch.arange(logits.shape[1], device=context.device) < lengths[:, None]
        losses = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), context[:, 1:], reduction="none"
        )
        total += float(losses[valid].sum())
        count += int(lengths.sum())
    return total / count


def _columns(memories: WrittenMemories, part: slice, model: Transformer) -> list[LayerMemory]:
    values = memories.key_values[part].to(model.device, model.dtype)  # [B, L, 2, K, N, D]
    hidden = ~_valid(memories)[part].to(model.device)
    bias = torch.zeros(hidden.shape, dtype=model.dtype, device=model.device)
    bias = bias.masked_fill(hidden, float("-inf"))[:, None].expand(-1, values.shape[3], -1)
    return [
        LayerMemory(values[:, layer, 0], values[:, layer, 1], bias)
        for layer in range(values.shape[1])
    ]


def _valid(memories: WrittenMemories) -> Tensor:
    """Bool [V, N]."""
    return torch.arange(memories.shape[3]) < memories.num_kept[:, None]
