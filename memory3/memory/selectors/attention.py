"""The paper's rule: keep the tokens that receive most attention inside their reference."""

from __future__ import annotations

import torch
from torch import Tensor

from memory3.memory.selectors.base import ReferenceStates, Selector

# Attention weights that exist at once, 16 MiB of float32: those of some references, never of all.
_BLOCK = 1 << 22


class AttentionSelector(Selector):
    """w_j = Σ_i softmax_j(q_i·k_j/√d), no causal mask, no positions (paper §3.3).

    Summed over the query heads that share the KV head; the normalised softmax, because the plain
    sum of exponentials can overflow.
    """

    name = "attention"

    def scores(self, states: ReferenceStates) -> Tensor:
        """See `Selector.scores`; the logarithm of the weight, which orders alike."""
        B, _, N, _ = states.keys.shape
        step = max(1, _BLOCK // (states.queries.shape[1] * N * N))
        blocks = [_received(states, slice(start, start + step)) for start in range(0, B, step)]
        received: Tensor = torch.cat(blocks).clamp(min=1e-9).log()
        return received


def _received(states: ReferenceStates, rows: slice) -> Tensor:
    """The attention that each token of some references receives, [rows, K, N]."""
    valid = states.valid[rows, None, None]
    B, K, N, D = states.keys[rows].shape
    queries = states.queries[rows].float().reshape(B, K, -1, N, D)
    keys = states.keys[rows].float()[:, :, None]
    logits = (queries @ keys.transpose(-1, -2)).mul_(D**-0.5)  # [B, K, G, N, N]
    weights = logits.masked_fill_(~valid[..., None, :], float("-inf")).softmax(dim=-1)
    # As a product, the sum over queries that are no padding makes no second matrix.
    return (valid[..., None, :].float() @ weights).sum(dim=2)[:, :, 0]
