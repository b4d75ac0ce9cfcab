"""The forward pass of training: one block mask and one pass for all chunks of all sequences.

Source: paper §7: references are encoded in the same step and gradients flow through the writer;
paper §4: a chunk reads its own references and no other chunk's. The paper loops over chunks; here
the references of a sequence stand side by side once, and a mask says which token reads which.
Shapes: B sequences, T tokens, P prefix tokens, U references of the batch, S of a sequence, N tokens
of a reference, m of them kept, K KV heads, D head dim, E width, C chunks, R references of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from memory3.memory.selectors.base import Selector
from memory3.memory.writer import WrittenLayer, encode_references
from memory3.model.transformer import LayerMemory, Transformer
from memory3_trainer.soft_selection import selection_bias
from memory3_trainer.stages.batch import NONE, MemoryBatch


@dataclass(frozen=True)
class Selection:
    """How tokens are chosen while training.

    Attributes:
        selector: Scores them.
        tokens_kept: Per KV head; None keeps all.
        temperature: Softness of the choice, in standard deviations of the scores.
        hard: Exactly the choice of inference, with the soft one as its gradient.
        detach: Gradients stop at the memories (an ablation: the writer learns nothing).
        noise: Standard deviation of what is added to keys and values, as a share of their size:
            what a codec will do to them.
    """

    selector: Selector
    tokens_kept: int | None = None
    temperature: float = 0.1
    hard: bool = True
    detach: bool = False
    noise: float = 0.0


def hidden_states(
    model: Transformer,
    batch: MemoryBatch,
    selection: Selection,
    *,
    run: Callable[..., Tensor] | None = None,
) -> Tensor:
    """Hidden states behind prefix and memories, [B, T, E]; give them to `Transformer.logits`.

    Args:
        model: Writer and reader.
        batch: Sequences and references.
        selection: How tokens of the references are chosen.
        run: What runs the model instead of `model` itself, such as a compiled one.
    """
    layout = model.layout
    B, T = batch.tokens.shape
    num_prefix = layout.num_prefix
    prefix = batch.tokens.new_tensor(model.config.prefix_ids).expand(B, -1)
    tokens = torch.cat((prefix, batch.tokens), dim=1)
    steps = torch.arange(num_prefix + T, device=tokens.device)
    positions = steps + (steps >= num_prefix) * layout.reference_length
    causal = steps[None, :] <= steps[:, None]
    memory, reads = _attach(model, batch, selection)
    hidden = (run or model)(tokens, positions, causal, memory, reads)
    return hidden[:, num_prefix:]


def _attach(
    model: Transformer, batch: MemoryBatch, selection: Selection
) -> tuple[list[LayerMemory], Tensor | None]:
    if not len(batch.references) or not batch.reads.numel():
        return [], None
    rows = _rows_of_sequences(batch.reads)  # [B, S]
    written = encode_references(model, batch.references, batch.lengths, selection.selector)
    number = torch.arange(batch.references.shape[1], device=batch.lengths.device)
    valid = number < batch.lengths[:, None]
    # What is drawn is a function of the batch, as the batch is one of the step: a run that goes on
    # draws the same again.
    noise = torch.Generator(batch.references.device).manual_seed(int(batch.references.sum()))
    memory = [_columns(layer, valid, rows, selection, noise) for layer in written]
    num_kept = memory[0].keys.shape[2] // rows.shape[1]
    return memory, _reads(model, batch, rows).repeat_interleave(num_kept, dim=-1)


def _rows_of_sequences(reads: Tensor) -> Tensor:
    """The references that each sequence reads anywhere, each once: [B, S], filled with `NONE`."""
    B = reads.shape[0]
    ordered = reads.view(B, -1).sort(dim=1, descending=True).values
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    once = ordered.masked_fill(again, NONE).sort(dim=1, descending=True).values
    most = max(1, int((once != NONE).sum(dim=1).max()))
    return once[:, :most]


def _columns(
    layer: WrittenLayer,
    valid: Tensor,
    rows: Tensor,
    selection: Selection,
    noise: torch.Generator,
) -> LayerMemory:
    keys, values = layer.keys, layer.values
    N = keys.shape[2]
    count = N if selection.tokens_kept is None else min(N, selection.tokens_kept)
    bias = selection_bias(
        layer.scores, valid, count=count, temperature=selection.temperature, hard=selection.hard
    )
    if selection.detach:
        keys, values, bias = keys.detach(), values.detach(), bias.detach()
    # What is dropped for good need not be carried along; a soft choice keeps as many again, for
    # their gradient.
    carried = min(N, count if selection.hard else 2 * count)
    if carried < N:
        index = bias.detach().topk(carried, dim=-1).indices
        wide = index[..., None].expand(-1, -1, -1, keys.shape[-1])
        keys, values, bias = keys.gather(2, wide), values.gather(2, wide), bias.gather(2, index)

    if selection.noise:
        keys, values = (blurred(part, selection.noise, noise) for part in (keys, values))

    def beside(part: Tensor) -> Tensor:  # [U, K, m, ...] to [B, K, S·m, ...]
        return part[rows.clamp(min=0)].transpose(1, 2).flatten(2, 3)

    missing = (rows == NONE)[:, None, :, None].expand(-1, bias.shape[1], -1, bias.shape[2])
    return LayerMemory(
        beside(keys), beside(values), beside(bias).masked_fill(missing.flatten(2), float("-inf"))
    )


def blurred(part: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Keys or values [U, K, m, D] with noise of a share of their root mean square, by KV head."""
    size = part.detach().square().mean(dim=(0, 2, 3), keepdim=True).sqrt()
    drawn = torch.empty_like(part).normal_(generator=generator)
    return part + share * size * drawn


def _reads(model: Transformer, batch: MemoryBatch, rows: Tensor) -> Tensor:
    """Which token of prefix and sequence reads which reference: bool [B, 1, P + T, S]."""
    B, C, _ = batch.reads.shape
    T = batch.tokens.shape[1]
    of_chunk = torch.zeros(B, C, rows.shape[1], dtype=torch.bool, device=rows.device)
    for place in range(batch.reads.shape[2]):
        wanted = batch.reads[:, :, place, None]
        of_chunk |= (wanted == rows[:, None, :]) & (wanted != NONE)
    steps = torch.arange(T, device=rows.device)
    chunk = (steps - 1).clamp(min=0) // model.config.memory.chunk_length
    of_token = of_chunk[:, chunk.clamp(max=C - 1)] & (chunk < C)[None, :, None]
    # The prefix is written once for all sequences at inference, so it never sees memories.
    none = of_token.new_zeros(B, model.layout.num_prefix, rows.shape[1])
    return torch.cat((none, of_token), dim=1)[:, None]
