"""The forward pass of training: a batch to hidden states, references as text or as memories.

Source: paper §7: references are encoded in the same step and gradients flow through the writer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from memory3.memory.selectors.base import Selector
from memory3.memory.writer import WrittenLayer, encode_references
from memory3.model.transformer import LayerMemory, Transformer
from memory3_trainer.batches import ReadingBatch

Bias = Callable[[Tensor, Tensor], Tensor]


def attach_references(
    model: Transformer, batch: ReadingBatch, selector: Selector, bias: Bias
) -> list[LayerMemory]:
    """Memory columns for every memory layer: the R references of each sequence side by side.

    Args:
        model: The writer.
        batch: Its references, tokenized.
        selector: Scores their tokens.
        bias: From scores [U, K, N] and validity [U, N] to the attention bias [U, K, N].
    """
    num_sequences = batch.context.shape[0]
    num_tokens = batch.references.shape[1]
    valid = torch.arange(num_tokens, device=batch.lengths.device) < batch.lengths[:, None]

    def side_by_side(part: Tensor) -> Tensor:  # [B·R, K, N, ...] to [B, K, R·N, ...]
        grouped = part.view(num_sequences, -1, *part.shape[1:]).transpose(1, 2)
        return grouped.flatten(2, 3)

    def columns(layer: WrittenLayer) -> LayerMemory:
        return LayerMemory(
            side_by_side(layer.keys),
            side_by_side(layer.values),
            side_by_side(bias(layer.scores, valid)),
        )

    written = encode_references(model, batch.references, batch.lengths, selector)
    return [columns(layer) for layer in written]


def read_context(
    model: Transformer, context_BT: Tensor, segments_BT: Tensor, memory: list[LayerMemory]
) -> Tensor:
    """Hidden states of the context behind prefix and memories; [B, T, E].

    The context starts with the separator, which stands at its own place behind the interval of
    the memories whether or not there are any (paper §4). Every question starts where the shared
    part ends and sees nothing of the other questions, so a packed sequence trains exactly what a
    prompt of one question is at inference.
    """
    layout = model.layout
    prefix = context_BT.new_tensor(model.config.prefix_ids).expand(len(context_BT), -1)
    tokens = torch.cat((prefix, context_BT), dim=1)
    segments = torch.cat((torch.zeros_like(prefix), segments_BT), dim=1)
    steps = torch.arange(tokens.shape[1], device=tokens.device)
    positions = _positions(segments) + (steps >= layout.num_prefix) * layout.reference_length
    causal = steps[None, :] <= steps[:, None]
    own = (segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])
    # At inference the prefix is written once for all sequences, so it never sees their memories.
    reads = (steps >= layout.num_prefix)[:, None]
    hidden: Tensor = model(tokens, positions[:, None], (causal & own)[:, None], memory, reads)
    return hidden[:, layout.num_prefix :]


def _positions(segments_BT: Tensor) -> Tensor:
    """Places of tokens when every segment above 0 starts where segment 0 ends; [B, T]."""
    num_shared = (segments_BT == 0).cumprod(dim=1).sum(dim=1, keepdim=True)
    starts = torch.zeros_like(segments_BT)
    steps = torch.arange(segments_BT.shape[1], device=segments_BT.device).expand_as(segments_BT)
    first = segments_BT[:, 1:] != segments_BT[:, :-1]
    starts[:, 1:] = torch.where(first, steps[:, 1:], 0)
    starts = starts.cummax(dim=1).values
    return torch.where(segments_BT == 0, steps, num_shared + steps - starts)
