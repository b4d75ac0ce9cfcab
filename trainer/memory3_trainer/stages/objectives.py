"""What a stage minimises: the next token, or preferences over pairs of answers.

Source: paper §7: next-token prediction in the first three stages, nothing auxiliary; DPO with
β = 0.01 in the last (Rafailov et al., 2023, eq. 7).
Shapes: B sequences, T tokens, E width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from memory3.model.transformer import Transformer
from memory3_trainer.stages.batch import MemoryBatch
from memory3_trainer.stages.forward import Selection, hidden_states
from memory3_trainer.stages.loss import next_token_loss, sequence_log_likelihood


class Objective(Protocol):
    """A sum of losses, to be divided by the sum of `weight` over all parts of a step."""

    def loss(
        self,
        model: Transformer,
        batch: MemoryBatch,
        selection: Selection,
        run: Callable[..., Tensor] | None = None,
    ) -> Tensor:
        """The sum of the losses of a batch."""

    def weight(self, batch: MemoryBatch) -> float:
        """What the sum is divided by."""


class NextToken:
    """Weighted cross-entropy of every token."""

    def loss(
        self,
        model: Transformer,
        batch: MemoryBatch,
        selection: Selection,
        run: Callable[..., Tensor] | None = None,
    ) -> Tensor:
        """See `Objective.loss`."""
        return next_token_loss(model, hidden_states(model, batch, selection, run=run), batch)

    def weight(self, batch: MemoryBatch) -> float:
        """The sum of the token weights."""
        return float(batch.weights[:, 1:].sum())


class Preference:
    """Direct preference optimisation; the first half of a batch is preferred over the second.

    Args:
        frozen: The model at the start of the stage; it is not trained.
        beta: How dear it is to leave that model.
    """

    def __init__(self, frozen: Transformer, beta: float) -> None:
        self._frozen = frozen.eval().requires_grad_(False)
        self._beta = beta

    def loss(
        self,
        model: Transformer,
        batch: MemoryBatch,
        selection: Selection,
        run: Callable[..., Tensor] | None = None,
    ) -> Tensor:
        """See `Objective.loss`."""
        own = _log_likelihoods(model, batch, selection, run)
        with torch.no_grad():
            before = _log_likelihoods(self._frozen.to(own.device), batch, selection, None)
        chosen, rejected = (own - before).chunk(2)
        return -F.logsigmoid(self._beta * (chosen - rejected)).sum()

    def weight(self, batch: MemoryBatch) -> float:
        """The number of pairs."""
        return len(batch.tokens) / 2


def _log_likelihoods(
    model: Transformer,
    batch: MemoryBatch,
    selection: Selection,
    run: Callable[..., Tensor] | None,
) -> Tensor:
    return sequence_log_likelihood(model, hidden_states(model, batch, selection, run=run), batch)
