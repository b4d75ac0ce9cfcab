"""How likely a number of right answers is by guessing, computed exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

# A model that guesses passes as guessing in 999 of 1000 runs.
_SIGNIFICANCE: Final = 0.001


def tail(num_right: int, num_questions: int, chance: float) -> float:
    """The probability of at least so many right answers by guessing.

    Args:
        num_right: Right answers.
        num_questions: All answers.
        chance: The probability of guessing one, in [0, 1].

    Returns:
        The upper tail of the binomial distribution, in [0, 1].
    """
    return math.fsum(
        math.comb(num_questions, right) * chance**right * (1 - chance) ** (num_questions - right)
        for right in range(num_right, num_questions + 1)
    )


def is_at_chance(num_right: int, num_questions: int, chance: float) -> bool:
    """Whether so many right answers are no evidence of knowledge, one-sided at 99.9 %."""
    return tail(num_right, num_questions, chance) > _SIGNIFICANCE


def median(values: Sequence[float]) -> float:
    """The middle value; 0 if there is none."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2
