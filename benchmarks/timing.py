"""Timing two or more ways of doing a thing side by side, so that a busy machine slows all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def seconds_side_by_side(
    ways: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 7,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each way; the ways take turns, after one round to warm up.

    Args:
        ways: What to time, by name.
        rounds: Timed rounds.
        clock: Seconds; of the processor alone where ways differ so much in length that a busy
            machine interrupts one of them and not the other.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(rounds + 1):
        for name, run in ways.items():
            start = clock()
            run()
            if round_number:
                seconds[name].append(clock() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}
