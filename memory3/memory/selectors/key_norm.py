"""Keep the tokens with the smallest keys, which attract most attention in trained models.

Source: Devoto et al., "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression",
2024.
"""

from __future__ import annotations

import torch
from torch import Tensor

from memory3.memory.selectors.base import ReferenceStates, Selector


class KeyNormSelector(Selector):
    """Smallest key norm first."""

    name = "key-norm"

    def scores(self, states: ReferenceStates) -> Tensor:
        """See `Selector.scores`."""
        norms: Tensor = torch.linalg.vector_norm(states.keys.float(), dim=-1)
        return -norms
