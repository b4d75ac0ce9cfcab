"""Losses over the tokens that carry a weight, computed in pieces (paper §7).

Shapes: B sequences, T tokens, E width, V vocabulary, W tokens that are trained on.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from memory3.model.transformer import Transformer
from memory3_trainer.stages.batch import MemoryBatch

# Logits of more tokens than this are computed in pieces, and again in the backward pass: at a
# vocabulary of 16,384 they would take 64 KiB a token.
_PIECE = 4096


def next_token_loss(model: Transformer, hidden: Tensor, batch: MemoryBatch) -> Tensor:
    """Weighted cross-entropy, summed over the tokens with a weight.

    Args:
        model: Gives the logits.
        hidden: [B, T, E] of `hidden_states`.
        batch: Targets and weights.
    """
    weights = batch.weights[:, 1:]
    wanted = weights > 0
    losses = _token_losses(model, hidden[:, :-1][wanted], batch.tokens[:, 1:][wanted])
    return (losses * weights[wanted]).sum()


def sequence_log_likelihood(model: Transformer, hidden: Tensor, batch: MemoryBatch) -> Tensor:
    """Log-likelihood of the weighted tokens of every sequence, float32 [B]."""
    wanted = batch.weights[:, 1:] > 0
    losses = _token_losses(model, hidden[:, :-1][wanted], batch.tokens[:, 1:][wanted])
    weighted = losses * batch.weights[:, 1:][wanted]
    return -losses.new_zeros(wanted.shape).masked_scatter(wanted, weighted).sum(dim=1)


def _token_losses(model: Transformer, states: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of W tokens, float32 [W], from their states [W, E]."""
    if len(targets) <= _PIECE:
        return _piece(model, states, targets)
    pieces = [slice(start, start + _PIECE) for start in range(0, len(targets), _PIECE)]
    parts: list[Tensor] = [
        checkpoint(_piece, model, states[piece], targets[piece], use_reentrant=False)
        for piece in pieces
    ]
    return torch.cat(parts)


def _piece(model: Transformer, states: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(model.logits(states[None])[0], targets, reduction="none")
