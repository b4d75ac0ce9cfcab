"""The Lightning module that teaches a model to read: loss, optimisers, one step.

Source: paper §7: next-token prediction, nothing auxiliary; weight decay 0.1, clipping at 1.0.
The matrices of the blocks are trained with Muon, the rest with AdamW (0.9, 0.95): at this size
reading from context took 450 steps with Muon; AdamW stood at chance after 350, when it was stopped
(docs/experiments.md).
"""

from __future__ import annotations

from typing import Any, cast

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor

from memory3 import plugins
from memory3.memory.selectors.base import Selector
from memory3.model.transformer import Transformer
from memory3_trainer.batches import ReadingBatch
from memory3_trainer.optimizers import make_optimizers
from memory3_trainer.reading import attach_references, read_context
from memory3_trainer.schedule import Schedule
from memory3_trainer.soft_selection import selection_bias


class ReadingModule(lightning.LightningModule):
    """Trains one stage. `step_count` counts batches, whatever the number of optimisers."""

    step_count: Tensor

    def __init__(self, model: Transformer, schedule: Schedule, *, selector: str) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.schedule = schedule
        self.selector: Selector = plugins.load("selectors", selector)()
        self.register_buffer("step_count", torch.zeros((), dtype=torch.int64))

    def training_step(self, batch: ReadingBatch, index: int) -> Tensor:
        """Weighted next-token loss of one batch, and the update."""
        step = int(self.step_count)
        memory = []
        if batch.attach:
            memory = attach_references(self.model, batch, self.selector, self._bias)
        hidden = read_context(self.model, batch.context, batch.segments, memory)
        loss, accuracy = reading_loss(self.model, hidden, batch)
        self.manual_backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in cast(list[Any], self.optimizers()):
            for group in optimizer.param_groups:
                group["lr"] = self.schedule.learning_rate * self.schedule.factor(step)
            optimizer.step()
            optimizer.zero_grad()
        self.step_count += 1
        kind = "memory" if batch.attach else "text"
        self.log_dict({f"loss/{kind}": loss.detach(), f"accuracy/{kind}": accuracy}, prog_bar=True)
        return loss.detach()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Muon for the matrices of the blocks, AdamW for embeddings and norms."""
        return make_optimizers(self.model, self.schedule.learning_rate)

    def _bias(self, scores: Tensor, valid: Tensor) -> Tensor:
        step = int(self.step_count)
        count = self.schedule.tokens_kept(step)
        return selection_bias(
            scores,
            valid,
            count=scores.shape[-1] if count is None else count,
            temperature=self.schedule.soft_temperature(step),
            hard=self.schedule.hard(step),
        )


def reading_loss(model: Transformer, hidden: Tensor, batch: ReadingBatch) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy, and the share of answers whose first token is the likeliest.

    Logits are computed only where a weight asks for them, because the vocabulary is wide.
    """
    weights = batch.weights[:, 1:]
    wanted = weights > 0
    logits = model.logits(hidden[:, :-1][wanted])
    targets = batch.context[:, 1:][wanted]
    losses = F.cross_entropy(logits, targets, reduction="none")
    weight = weights[wanted]
    first = batch.answers[:, 1:][wanted]
    accuracy = (logits[first].argmax(-1) == targets[first]).float().mean()
    return (losses * weight).sum() / weight.sum(), accuracy
