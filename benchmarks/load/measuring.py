"""The callers, in a process of their own: ``python -m benchmarks.load.measuring JOB``.

Callers are on other machines than the services, as a rule. Where they must share one, what they do
with refusals would be counted as the services' loss. So they give way: the system runs them when
the services leave it time, at the peak and under overload alike.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.load.offering import Callers
from benchmarks.load.watching import EventLoopLags, Watch

BANK = "load"
_FACTOR = 10
_NICENESS = 10


@dataclass(frozen=True)
class Job:
    """What is called, and for how long.

    Attributes:
        address: The decoder.
        pid: Its process.
        metrics_port: Where it shows its metrics.
        seconds: How long the overload lasts.
        num_tokens: Tokens of each answer.
    """

    address: str
    pid: int
    metrics_port: int
    seconds: float
    num_tokens: int


def measure_apart(job: Job) -> dict[str, Any]:
    """The figures, measured in a process that gives way to all others."""
    command = [sys.executable, "-m", "benchmarks.load.measuring", json.dumps(asdict(job))]
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    figures: dict[str, Any] = json.loads(ended.stdout)
    return figures


async def _measure(job: Job) -> dict[str, Any]:
    metrics_port, seconds = job.metrics_port, job.seconds
    watch = Watch(job.address, job.pid)
    async with Callers(job.address, f"banks/{BANK}", job.num_tokens) as callers:
        await callers.closed(16, 3.0)
        lags = EventLoopLags(metrics_port)
        peak = await callers.closed(16, seconds / 3)
        peak_lag_p99 = lags.percentile(0.99)
        lags = EventLoopLags(metrics_port)
        with watch:
            over = await callers.opened(_FACTOR * peak.goodput, seconds)
        lag_p99 = lags.percentile(0.99)
        after = await callers.closed(16, seconds / 3)
    mean_peak = (peak.goodput + after.goodput) / 2
    half = len(watch.memory_bytes) // 2
    return {
        "seconds": seconds,
        "peak_answers_per_second": peak.goodput,
        "peak_answers_per_second_after": after.goodput,
        "offered_per_second": _FACTOR * peak.goodput,
        "goodput": over.goodput,
        "goodput_over_peak": over.goodput / mean_peak,
        "refused": dict(over.refused),
        "refused_without_delay": over.without_delay,
        "refused_after_p50_s": statistics.median(over.refused_s) if over.refused_s else None,
        "first_token_p50_s": statistics.median(over.first_token_s),
        "health_checks": watch.num_checks,
        "health_checks_unwell": watch.num_unwell,
        "memory_bytes_most": max(watch.memory_bytes),
        # Bounded: the second half of the overload needs no more than the first.
        "memory_second_half_over_first": max(watch.memory_bytes[half:])
        / max(watch.memory_bytes[:half]),
        # All slots in use, and as many again waiting.
        "event_loop_lag_p99_s_at_peak": peak_lag_p99,
        "event_loop_lag_p99_s": lag_p99,
        "answers_late": over.refused["DEADLINE_EXCEEDED"],
    }


if __name__ == "__main__":
    os.nice(_NICENESS)
    print(json.dumps(asyncio.run(_measure(Job(**json.loads(sys.argv[1]))))))
