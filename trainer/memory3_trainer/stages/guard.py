"""Breaks off a run that diverges, and says which states are worth keeping.

A single high loss may be a hard batch; several in a row, or one that is no number, are a run that
has left the rails. Nothing is updated with a loss that is no number. Sources are judged apart: a
question may cost ten times what a recitation does.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from statistics import median

from memory3.errors import TrainingDivergedError


class DivergenceGuard:
    """Watches losses.

    Args:
        factor: A loss so many times the median of its source's last ones is a spike.
        patience: Spikes in a row that are one too many.
        window: How many losses the median is taken of; before a source has as many, none of its
            losses is a spike.
        losses: The last losses of each source of a run that goes on.
    """

    def __init__(
        self,
        *,
        factor: float,
        patience: int,
        window: int,
        losses: Mapping[str, Iterable[float]] | None = None,
    ) -> None:
        self._factor, self._patience, self._window = factor, patience, window
        self._losses = {name: deque(own, maxlen=window) for name, own in (losses or {}).items()}
        self._spikes = 0

    @property
    def calm(self) -> bool:
        """Whether the last loss was no spike: only then is a state kept."""
        return self._spikes == 0

    @property
    def losses(self) -> dict[str, list[float]]:
        """The last losses of each source, spikes left out."""
        return {name: list(own) for name, own in self._losses.items()}

    def check(self, step: int, source: str, loss: float, gradient_norm: float) -> None:
        """Look at a step before its update.

        Raises:
            TrainingDivergedError: Loss or gradient is no number, or too many spikes came in a row.
        """
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            raise _diverged(step, f"loss {loss}, gradient norm {gradient_norm}")
        own = self._losses.setdefault(source, deque(maxlen=self._window))
        if len(own) == self._window and loss > self._factor * median(own):
            self._spikes += 1
            if self._spikes >= self._patience:
                raise _diverged(step, f"{source}: loss {loss:.3f}, median {median(own):.3f}")
        else:
            self._spikes = 0
            own.append(loss)


def _diverged(step: int, what: str) -> TrainingDivergedError:
    return TrainingDivergedError(
        f"training diverged at step {step}: {what}",
        field="optimizer.learning_rate",
        remedy="lower the learning rate and go on from the last good state with the same command"
        " and --override optimizer.learning_rate=…, or look at the batches around that step",
        metadata={"step": str(step)},
    )
