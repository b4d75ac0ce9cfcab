"""Next-token loss, the only loss of the stages before preferences (paper §7).

Shapes: B sequences, T tokens, E width, V vocabulary, W tokens that are trained on.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from memory3.model.transformer import Transformer
from memory3_trainer.stages.batch import MemoryBatch

# Logits of more tokens than this are computed in pieces, and again in the backward pass: at a
# vocabulary of 16,384 they would take 64 KiB a token.
_PIECE = 4096


def next_token_loss(
    model: Transformer, hidden: Tensor, batch: MemoryBatch
) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy over the tokens with a weight.

    Args:
        model: Gives the logits.
        hidden: [B, T, E] of `hidden_states`.
        batch: Targets and weights.

    Returns:
        The sum of weighted losses and the sum of the weights, so that parts of a batch can be
        added up before they are divided.
    """
    weights = batch.weights[:, 1:]
    wanted = weights > 0
    states, targets = hidden[:, :-1][wanted], batch.tokens[:, 1:][wanted]
    weight = weights[wanted]
    total = hidden.new_zeros((), dtype=weight.dtype)
    for start in range(0, len(targets), _PIECE):
        piece = slice(start, start + _PIECE)
        part = states[piece], targets[piece], weight[piece]
        if len(targets) > _PIECE:
            total = total + checkpoint(_piece, model, *part, use_reentrant=False)
        else:
            total = total + _piece(model, *part)
    return total, weight.sum()


def _piece(model: Transformer, states: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    losses = F.cross_entropy(model.logits(states[None])[0], targets, reduction="none")
    return (losses * weight).sum()
