"""Keep the first tokens: the cheapest rule, for comparison."""

from __future__ import annotations

import torch
from torch import Tensor

from memory3.memory.selectors.base import ReferenceStates, Selector, repeat_first


class FirstSelector(Selector):
    """The first tokens of the reference."""

    name = "first"

    def scores(self, states: ReferenceStates) -> Tensor:
        """See `Selector.scores`."""
        return repeat_first(-torch.arange(states.keys.shape[2], device=states.keys.device), states)
