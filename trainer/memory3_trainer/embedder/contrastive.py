"""Learning the pooling: a query is to be nearest to its reference among those of its batch.

InfoNCE with in-batch negatives, in both directions (van den Oord et al. 2018, arXiv 1807.03748;
Karpukhin et al. 2020, arXiv 2004.04906). Every batch is of one set of pairs, where references are
alike and so hard to tell apart. The model is frozen; its hidden states come from `states`.
Shapes: B queries and as many references, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from memory3.errors import InvalidArgumentError, TrainingDivergedError
from memory3.model.pooling import Pooling
from memory3_trainer.embedder.states import CachedStates

_WARMUP_SHARE, _DECAY_SHARE = 0.05, 0.5
_LOG_EVERY = 50


@dataclass(frozen=True)
class ContrastiveSettings:
    """How the pooling is learnt.

    Attributes:
        dimensions: Length of a vector.
        batch_size: Pairs of a step.
        temperature: Inner products are divided by it.
        weight_decay: Of the projection.
        seed: Of weights and batches.
    """

    steps: int = 1000
    dimensions: int = 256
    batch_size: int = 256
    learning_rate: float = 3e-3
    temperature: float = 0.05
    weight_decay: float = 0.01
    seed: int = 1

    def __post_init__(self) -> None:
        limits = {"steps": 1e9, "dimensions": 65_536, "learning_rate": 1.0, "temperature": 10.0}
        for name, most in limits.items():
            if not 0 < getattr(self, name) <= most:
                raise InvalidArgumentError(
                    f"{name} is {getattr(self, name)}",
                    field=name,
                    remedy=f"give more than zero and at most {most:g}",
                )
        if self.batch_size < 2:
            raise InvalidArgumentError(
                f"batch_size is {self.batch_size}",
                field="batch_size",
                remedy="give at least 2: the other pairs of a batch are what a pair is told from",
            )


@dataclass(frozen=True)
class LearningSet:
    """One set of pairs in hidden states.

    Attributes:
        queries: Hidden states of the queries.
        references: Hidden states of the references.
        gold: For each query the numbers of its references.
        chosen: Numbers of the queries to learn from.
    """

    queries: CachedStates
    references: CachedStates
    gold: Sequence[tuple[int, ...]]
    chosen: Sequence[int]


def info_nce(queries_BD: Tensor, references_BD: Tensor, same_BB: Tensor, temp: float) -> Tensor:
    """Mean cross entropy of finding row i of the one at row i of the other.

    Args:
        queries_BD: Unit vectors.
        references_BD: Unit vectors.
        same_BB: Bool; reference j also answers query i, so it is neither right nor wrong.
        temp: Temperature.
    """
    logits = queries_BD @ references_BD.T / temp
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(same_BB & ~own, float("-inf"))
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def train_pooling(
    sets: Sequence[LearningSet],
    width: int,
    settings: ContrastiveSettings,
    progress: Callable[[int], None] = lambda step: None,
) -> tuple[Pooling, list[dict[str, float]]]:
    """Learn gate and projection.

    Args:
        sets: Drawn from in proportion to their queries.
        width: Of the hidden states.
        settings: How.
        progress: Told the step.

    Returns:
        The pooling in evaluation mode, and its curve: mean loss over every 50 steps.

    Raises:
        TrainingDivergedError: The loss is no number.
    """
    pooling = Pooling(width, settings.dimensions)
    pooling.reset_parameters(torch.Generator().manual_seed(settings.seed))
    optimizer = torch.optim.AdamW(
        [
            {"params": [pooling.projection], "weight_decay": settings.weight_decay},
            {"params": [pooling.gate], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )
    draws = [_Draws(part, settings, number) for number, part in enumerate(sets)]
    sizes = np.array([len(part.chosen) for part in sets], np.float64)
    turns = np.random.default_rng((settings.seed, len(sets)))
    curve, losses = [], []
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _factor(step, settings.steps)
        queries, references, same = draws[turns.choice(len(sets), p=sizes / sizes.sum())].batch()
        loss = info_nce(pooling(*queries), pooling(*references), same, settings.temperature)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(_sound(float(loss.detach()), step))
        progress(step + 1)
        if (step + 1) % _LOG_EVERY == 0 or step + 1 == settings.steps:
            curve.append({"step": step + 1, "loss": round(sum(losses) / len(losses), 4)})
            losses.clear()
    return pooling.eval().requires_grad_(False), curve


class _Draws:
    """Batches of one set: every query once before any comes again."""

    def __init__(self, part: LearningSet, settings: ContrastiveSettings, number: int) -> None:
        self._part, self._size = part, min(settings.batch_size, len(part.chosen))
        self._random = np.random.default_rng((settings.seed, number, 0))
        self._order: list[int] = []

    def batch(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Tensor]:
        if len(self._order) < self._size:
            self._order = self._random.permutation(np.asarray(self._part.chosen)).tolist()
        numbers, self._order = self._order[: self._size], self._order[self._size :]
        gold = [self._part.gold[number] for number in numbers]
        drawn = [int(self._random.choice(own)) for own in gold]
        same = torch.from_numpy(np.array([np.isin(drawn, own) for own in gold]))
        return self._part.queries.batch(numbers), self._part.references.batch(drawn), same


def _sound(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise TrainingDivergedError(
            f"training diverged at step {step + 1}: loss {loss}",
            field="learning_rate",
            remedy="give a lower --learning-rate, and check the weights",
        )
    return loss


def _factor(step: int, steps: int) -> float:
    rise = (step + 1) / max(1.0, _WARMUP_SHARE * steps)
    fall = (steps - step) / max(1.0, _DECAY_SHARE * steps)
    return min(1.0, rise, fall)
