"""Selection that training can teach: hard for the forward pass, soft for the gradient.

Dropping tokens passes no gradient to what was dropped, so a model trained with a hard choice
never learns to keep what carries the answer (docs/experiments.md). Here the choice is a bias on
the attention logits of the memory, log sigmoid((score - threshold) / temperature), which falls to
the hard choice of `select` as the temperature falls; no new parameters.
Shapes: U references, K KV heads, N tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from memory3.memory.selectors.base import select


def selection_bias(
    scores: Tensor, valid: Tensor, *, count: int, temperature: float, hard: bool
) -> Tensor:
    """Additive attention bias of every token of every reference.

    Args:
        scores: Of a selector [U, K, N].
        valid: Bool [U, N], false for padding.
        count: Tokens to keep.
        temperature: In standard deviations of the scores of a reference and head, so that a
            model cannot soften the choice by shrinking its scores.
        hard: Exactly the choice made at inference, with the soft bias as its gradient.

    Returns:
        [U, K, N]; minus infinity at padding and, if hard, at what is dropped.
    """
    hidden = ~valid[:, None, :]
    number = valid.sum(-1)[:, None, None]
    if count >= scores.shape[-1]:
        return torch.zeros_like(scores).masked_fill(hidden, float("-inf"))
    mean = scores.masked_fill(hidden, 0).sum(-1, keepdim=True) / number
    centred = (scores - mean).masked_fill(hidden, 0)
    # The small number keeps the gradient finite where all scores are equal.
    spread = (centred.square().sum(-1, keepdim=True) / number + 1e-12).sqrt()
    normal = centred / spread
    ordered = normal.masked_fill(hidden, float("-inf")).sort(dim=-1, descending=True).values
    inside, outside = ordered[..., count - 1 : count], ordered[..., count : count + 1]
    # References no longer than `count` keep everything: their threshold lies below any score.
    threshold = torch.where(outside.isinf(), -1e4, (inside + outside) / 2).detach()
    soft = torch.nn.functional.logsigmoid((normal - threshold) / temperature)
    if hard:
        index = select(scores.detach(), valid, count)  # breaks ties as inference does
        kept = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, index, True)
        soft = (soft - soft.detach()).masked_fill(~kept, float("-inf"))
    return soft.masked_fill(hidden, float("-inf"))
