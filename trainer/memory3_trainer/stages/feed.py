"""Feeds a trainer with the steps of a stage, from any step on, each process with its own share."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import IterableDataset

from memory3_trainer.data.sources import Mixture, Share
from memory3_trainer.stages.module import StepBatch


class StepFeed(IterableDataset[StepBatch]):
    """The steps from `start` to `stop` - 1.

    Args:
        mixture: Sources by share.
        accumulate: Batches of a step.
        start: First step.
        stop: One after the last.
        share: Which part of every batch this process takes.
    """

    def __init__(
        self, mixture: Mixture, *, accumulate: int, start: int, stop: int, share: Share
    ) -> None:
        self._mixture, self._accumulate = mixture, accumulate
        self._start, self._stop, self._share = start, stop, share

    def __iter__(self) -> Iterator[StepBatch]:
        for step in range(self._start, self._stop):
            name, parts = self._mixture.parts(step, self._accumulate, self._share)
            yield StepBatch(step, name, parts)
