"""How learning rate and tokens kept change over the steps of a stage.

Source: paper §7 (warmup-stable-decay). The annealing of the tokens kept is ours: training with 8
tokens from the first step never learns to read, since selection passes no gradient to what it
drops (docs/experiments.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Steps, rates and annealing of one stage.

    Attributes:
        steps: Steps in all.
        learning_rate: Of the stable part.
        warmup: Steps of linear rise.
        decay_share: Share of the steps that fall linearly to nothing at the end.
        keep_from: Tokens kept per KV head when the annealing starts; before it all are kept.
            0 keeps `keep_to` from the first step.
        keep_to: Tokens kept at its end; 0 keeps all throughout.
        anneal: Shares of the steps at which the annealing starts and ends.
        temperature: Softness of the selection at start and end of the annealing.
        hard_from: Share of the steps from which the choice is exactly that of inference.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    decay_share: float = 0.2
    keep_from: int = 64
    keep_to: int = 0
    anneal: tuple[float, float] = (0.1, 0.6)
    temperature: tuple[float, float] = (0.5, 0.05)
    hard_from: float = 0.6

    def factor(self, step: int) -> float:
        """Learning rate at a step as a share of the stable one."""
        rise = (step + 1) / max(1, self.warmup)
        fall = (self.steps - step) / max(1.0, self.decay_share * self.steps)
        return max(0.0, min(1.0, rise, fall))

    def tokens_kept(self, step: int) -> int | None:
        """Tokens kept per KV head at a step; None keeps all."""
        if not self.keep_from:
            return self.keep_to or None
        share = self._annealed(step)
        if not self.keep_to or share <= 0.0:
            return None
        # Geometric, so that the last few tokens, which matter most, are given up slowly.
        kept = self.keep_from * math.exp(share * math.log(self.keep_to / self.keep_from))
        return max(self.keep_to, round(kept))

    def soft_temperature(self, step: int) -> float:
        """Softness of the selection at a step."""
        start, end = self.temperature
        return float(start * (end / start) ** max(0.0, self._annealed(step)))

    def hard(self, step: int) -> bool:
        """Whether a step makes exactly the choice that inference makes."""
        return step >= self.hard_from * self.steps

    def _annealed(self, step: int) -> float:
        start, end = self.anneal
        return min(1.0, (step / self.steps - start) / (end - start))
