"""The paper's rule: keep the tokens that receive most attention inside their reference."""

from __future__ import annotations

from torch import Tensor

from memory3.memory.selectors.base import ReferenceStates, Selector


class AttentionSelector(Selector):
    """w_j = Σ_i softmax_j(q_i·k_j/√d), no causal mask, no positions (paper §3.3).

    Summed over the query heads that share the KV head; the normalised softmax, because the plain
    sum of exponentials can overflow.
    """

    name = "attention"

    def scores(self, states: ReferenceStates) -> Tensor:
        """See `Selector.scores`; the logarithm of the weight, which orders alike."""
        B, K, N, D = states.keys.shape
        queries = states.queries.float().reshape(B, K, -1, N, D)
        keys = states.keys.float()[:, :, None]
        logits = queries @ keys.transpose(-1, -2) * D**-0.5  # [B, K, G, N, N]
        logits = logits.masked_fill(~states.valid[:, None, None, None, :], float("-inf"))
        weights = logits.softmax(dim=-1) * states.valid[:, None, None, :, None]
        received: Tensor = weights.sum(dim=(2, 3)).clamp(min=1e-9).log()
        return received
