"""Breaks off a run that diverges, and says which states are worth keeping.

A single high loss may be a hard batch; several in a row, or one that is no number, are a run that
has left the rails. Nothing is updated with a loss that is no number.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from statistics import median

from memory3.errors import TrainingDivergedError


class DivergenceGuard:
    """Watches losses.

    Args:
        factor: A loss so many times the median of the last ones is a spike.
        patience: Spikes in a row that are one too many.
        window: How many losses the median is taken of; before there are as many, none is a spike.
        losses: The last losses of a run that goes on.
    """

    def __init__(
        self, *, factor: float, patience: int, window: int, losses: Iterable[float] = ()
    ) -> None:
        self._factor, self._patience = factor, patience
        self._losses: deque[float] = deque(losses, maxlen=window)
        self._spikes = 0

    @property
    def calm(self) -> bool:
        """Whether the last loss was no spike: only then is a state kept."""
        return self._spikes == 0

    @property
    def losses(self) -> tuple[float, ...]:
        """The last losses, spikes left out."""
        return tuple(self._losses)

    def check(self, step: int, loss: float, gradient_norm: float) -> None:
        """Look at a step before its update.

        Raises:
            TrainingDivergedError: Loss or gradient is no number, or too many spikes came in a row.
        """
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            raise _diverged(step, f"loss {loss}, gradient norm {gradient_norm}")
        full = len(self._losses) == self._losses.maxlen
        if full and loss > self._factor * median(self._losses):
            self._spikes += 1
            if self._spikes >= self._patience:
                raise _diverged(step, f"loss {loss:.3f}, median {median(self._losses):.3f}")
        else:
            self._spikes = 0
            self._losses.append(loss)


def _diverged(step: int, what: str) -> TrainingDivergedError:
    return TrainingDivergedError(
        f"training diverged at step {step}: {what}",
        field="optimizer.learning_rate",
        remedy="lower the learning rate and go on from the last good state with the same command"
        " and --override optimizer.learning_rate=…, or look at the batches around that step",
        metadata={"step": str(step)},
    )
