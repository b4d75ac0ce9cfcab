"""The Lightning module of every stage: one step of the optimiser from the parts of a batch.

Source: paper §7: AdamW states in float32, weight decay 0.1; clipping at 1.0 is ours. The gradient
of a step is that of the mean over all weighted tokens of all its parts on all processes, so
neither accumulation nor the number of processes changes what is learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import lightning
import torch
from torch import Tensor

from memory3 import plugins
from memory3.memory.selectors.base import Selector
from memory3.model.transformer import Transformer
from memory3_trainer.optimizers import OptimizerName, make_optimizers
from memory3_trainer.schedule import Schedule
from memory3_trainer.stages.batch import MemoryBatch
from memory3_trainer.stages.forward import Selection
from memory3_trainer.stages.guard import DivergenceGuard
from memory3_trainer.stages.objectives import NextToken, Objective


@dataclass
class StepBatch:
    """What one step of the optimiser is made of.

    Attributes:
        step: Its number.
        source: Name of the source that the parts come from.
        parts: Run one after the other; their gradients add up.
    """

    step: int
    source: str
    parts: list[MemoryBatch]

    def to(self, device: torch.device | str) -> StepBatch:
        """The same on another device; Lightning asks for it."""
        return StepBatch(self.step, self.source, [part.to(device) for part in self.parts])


@dataclass(frozen=True)
class StepReport:
    """What a step tells of itself."""

    step: int
    source: str
    loss: float
    gradient_norm: float
    learning_rate: float
    tokens_kept: int | None
    num_tokens: int


class StageModule(lightning.LightningModule):
    """Trains one stage.

    Args:
        model: What is trained.
        schedule: Learning rate and tokens kept over the steps.
        guard: Breaks off a run that diverges.
        optimizer: ``muon`` or ``adamw``.
        clip: Largest norm of the gradient.
        detach: Gradients stop at the memories.
        noise: What is added to memories; see `Selection`. Nothing where the loss is measured.
        objective: What is minimised.
        compile: Run the model through ``torch.compile``.

    Attributes:
        report: Of the last step.
    """

    def __init__(
        self,
        model: Transformer,
        schedule: Schedule,
        guard: DivergenceGuard,
        *,
        optimizer: OptimizerName = "muon",
        clip: float = 1.0,
        detach: bool = False,
        noise: float = 0.0,
        objective: Objective | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.schedule, self.guard = schedule, guard
        self.objective = objective or NextToken()
        self._optimizer_name, self._clip = optimizer, clip
        self._detach, self._noise = detach, noise
        self._selector: Selector = plugins.load("selectors", model.config.memory.selector)()
        self._run: Callable[..., Tensor] | None = None
        if compile:
            # The function, not the model: a compiled model would be a second module of this one,
            # and its weights would stand in the state twice.
            self._run = torch.compile(model.forward, dynamic=True)
        self.report: StepReport | None = None

    def training_step(self, batch: StepBatch, index: int) -> Tensor:
        """Forward, backward and update of one step.

        Raises:
            TrainingDivergedError: Before anything is updated.
        """
        selection = self.selection(batch.step)
        weight = self.summed(sum(self.objective.weight(part) for part in batch.parts))
        loss = torch.zeros((), device=self.device)
        for number, part in enumerate(batch.parts):
            with self._synchronised(number == len(batch.parts) - 1):
                own = self.objective.loss(self.model, part, selection, self._run) / weight
                # Processes average their gradients; the mean over all tokens wants the sum.
                self.manual_backward(own * self.trainer.world_size)
                loss += own.detach().float()
        mean = self.summed(float(loss))
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._clip))
        self.guard.check(batch.step, batch.source, mean, norm)
        rate = self.schedule.learning_rate * self.schedule.factor(batch.step)
        self._update(rate)
        self.report = StepReport(
            batch.step, batch.source, mean, norm, rate, selection.tokens_kept,
            int(self.summed(sum(float((part.weights > 0).sum()) for part in batch.parts))),
        )  # fmt: skip
        return loss

    @torch.no_grad()
    def measure(self, batches: Mapping[str, list[MemoryBatch]], step: int) -> dict[str, float]:
        """Mean loss of each source with the selection of a step, over all processes."""
        selection, measured = replace(self.selection(step), noise=0.0), {}
        objective = NextToken()
        for name, parts in batches.items():
            with self.trainer.precision_plugin.forward_context():
                moved = [part.to(self.device) for part in parts]
                total = sum(float(objective.loss(self.model, part, selection)) for part in moved)
            weight = self.summed(sum(objective.weight(part) for part in parts))
            measured[name] = self.summed(total) / max(weight, 1e-9)
        return measured

    def selection(self, step: int) -> Selection:
        """How tokens are chosen at a step."""
        return Selection(
            self._selector,
            tokens_kept=self.schedule.tokens_kept(step),
            temperature=self.schedule.soft_temperature(step),
            hard=self.schedule.hard(step),
            detach=self._detach,
            noise=self._noise,
        )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """See `memory3_trainer.optimizers`."""
        return make_optimizers(self.model, self.schedule.learning_rate, self._optimizer_name)

    def _update(self, rate: float) -> None:
        optimizers = self.optimizers()
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()

    def _synchronised(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients cross between processes with the last part of a step only."""
        pause = getattr(self.trainer.strategy.model, "no_sync", None)
        return nullcontext() if last or pause is None else pause()

    def summed(self, value: float) -> float:
        """The sum over all processes."""
        if self.trainer.world_size == 1:
            return value
        whole = self.trainer.strategy.reduce(
            torch.tensor(value, dtype=torch.float64, device=self.device), reduce_op="sum"
        )
        return float(whole)
