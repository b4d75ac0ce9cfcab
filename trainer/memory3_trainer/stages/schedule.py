"""Learning rate and tokens kept over the steps of a stage, from its settings (paper §7)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from memory3_trainer.schedule import Schedule
from memory3_trainer.stages.settings import StageSettings


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """Linear rise, then half a cosine to nothing: fine-tuning (paper §7, stages 3 and 4)."""

    def factor(self, step: int) -> float:
        """See `Schedule.factor`."""
        rise = (step + 1) / max(1, self.warmup)
        share = min(1.0, max(0, step - self.warmup) / max(1, self.steps - self.warmup))
        return min(1.0, rise, 0.5 * (1 + math.cos(math.pi * share)))


def make_schedule(settings: StageSettings) -> Schedule:
    """The schedule of a stage."""
    optimizer, selection = settings.optimizer, settings.selection
    kind = CosineSchedule if optimizer.kind == "cosine" else Schedule
    return kind(
        steps=settings.steps,
        learning_rate=optimizer.learning_rate,
        warmup=optimizer.warmup,
        decay_share=optimizer.decay_share,
        keep_from=selection.keep_from,
        keep_to=selection.keep_to,
        anneal=selection.anneal,
        temperature=selection.temperature,
        hard_from=selection.hard_from,
    )
