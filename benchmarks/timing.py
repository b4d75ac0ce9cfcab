"""Timing two or more ways of doing a thing side by side, so that a busy machine slows all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def seconds_side_by_side(
    ways: Mapping[str, Callable[[], object]], *, rounds: int = 7
) -> dict[str, float]:
    """Median seconds of each way; the ways take turns, after one round to warm up.

    Args:
        ways: What to time, by name.
        rounds: Timed rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(rounds + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            if round_number:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}
