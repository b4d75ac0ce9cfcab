"""Keep tokens by lot: what any rule has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from memory3.memory.selectors.base import ReferenceStates, Selector


class RandomSelector(Selector):
    """A fixed lot per KV head and place, so that the same reference always keeps the same."""

    name = "random"
    seed = 20240701

    def scores(self, states: ReferenceStates) -> Tensor:
        """See `Selector.scores`."""
        B, K, N, _ = states.keys.shape
        generator = torch.Generator().manual_seed(self.seed)
        # Drawn place by place, so that padding a batch does not change the lot of a token.
        lot = torch.rand(N, K, generator=generator).T
        return lot.to(states.keys.device).expand(B, K, N)
