"""Keep the tokens with the largest values: what they add when read is largest, too."""

from __future__ import annotations

import torch
from torch import Tensor

from memory3.memory.selectors.base import ReferenceStates, Selector


class ValueNormSelector(Selector):
    """Largest value norm first."""

    name = "value-norm"

    def scores(self, states: ReferenceStates) -> Tensor:
        """See `Selector.scores`."""
        norms: Tensor = torch.linalg.vector_norm(states.values.float(), dim=-1)
        return norms
