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
import time
from dataclasses import asdict, dataclass
from itertools import pairwise, starmap
from typing import Any

from benchmarks.load.offering import Callers, Outcome
from benchmarks.load.watching import EventLoopLags, Watch

BANK = "load"
_FACTOR = 10
_NICENESS = 10
_NUM_CALLERS = 16
_NUM_TURNS = 6
# Calls are made for so long before anything counts: at first slots are empty.
_BEGIN_S = 3.0


@dataclass(frozen=True)
class Job:
    """What is called, and for how long.

    Attributes:
        address: The decoder.
        pid: Its process.
        metrics_port: Where it shows its metrics.
        seconds: How long the overload lasts, in turns with the peak and then at a stretch.
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
    watch = Watch(job.address, job.pid)
    async with Callers(job.address, f"banks/{BANK}", job.num_tokens) as callers:
        await callers.closed(_NUM_CALLERS, _BEGIN_S, Outcome())
        lags = EventLoopLags(job.metrics_port)
        rate = _FACTOR * await _peak(callers, job.seconds / _NUM_TURNS)
        peak_lag_p99 = lags.percentile(0.99)
        peak, goodput = await _in_turns(callers, rate, job.seconds / _NUM_TURNS)
        lags, over = EventLoopLags(job.metrics_port), Outcome()
        begin = time.perf_counter() + min(_BEGIN_S, job.seconds / 2)
        end = time.perf_counter() + job.seconds
        with watch:
            await callers.opened(rate, job.seconds, over)
        lag_p99 = lags.percentile(0.99)
    half = len(watch.memory_bytes) // 2
    num_late = over.refused["DEADLINE_EXCEEDED"]
    return {
        "seconds": job.seconds,
        "peak_answers_per_second": peak,
        "goodput": goodput,
        "goodput_over_peak": goodput / peak,
        "offered_per_second": rate,
        "goodput_at_a_stretch": over.goodput(begin, end),
        "answered": len(over.answers),
        "answered_late": num_late,
        "answered_in_time": len(over.answers) / (len(over.answers) + num_late),
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
    }


async def _peak(callers: Callers, seconds: float) -> float:
    """The most answers a second."""
    outcome, begin = Outcome(), time.perf_counter() + _BEGIN_S
    await callers.closed(_NUM_CALLERS, _BEGIN_S + seconds, outcome)
    return outcome.goodput(begin, begin + seconds)


async def _in_turns(callers: Callers, rate: float, seconds: float) -> tuple[float, float]:
    """Answers a second at the peak and under overload, each for so long at a time.

    The callers of the peak are always there; in every other turn calls come on top of them. Shared
    machines change their speed from one half minute to the next by more than what is looked for,
    so that turns must be shorter than that.
    """
    outcome, moments = Outcome(), [time.perf_counter() + _BEGIN_S]
    async with asyncio.TaskGroup() as tasks:
        total_s = _BEGIN_S + (2 * _NUM_TURNS + 1) * seconds
        tasks.create_task(callers.closed(_NUM_CALLERS, total_s, outcome))
        await asyncio.sleep(_BEGIN_S + seconds)
        for _ in range(_NUM_TURNS):
            moments.append(time.perf_counter())
            tasks.create_task(callers.opened(rate, seconds, outcome))
            await asyncio.sleep(seconds)
            moments.append(time.perf_counter())
            await asyncio.sleep(seconds)
        moments.append(time.perf_counter())
    turns = list(starmap(outcome.goodput, pairwise(moments)))
    # Each overload between two peaks, so that the first and the last count half.
    peaks = map(statistics.mean, pairwise(turns[::2]))
    return statistics.mean(peaks), statistics.mean(turns[1::2])


if __name__ == "__main__":
    os.nice(_NICENESS)
    print(json.dumps(asyncio.run(_measure(Job(**json.loads(sys.argv[1]))))))
