"""F8: ten times as many calls as can be served: those that are served are served as ever."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

import pytest
from memory3_decoder.parameters import DEFAULT_MAX_TOKENS

from benchmarks.load.__main__ import measure_load
from tests.faults.campaign import FULL, Campaign

pytestmark = pytest.mark.e2e

CHECKPOINT = Path("checkpoints/small")


@pytest.mark.timeout(0)
def test_f8_overload_costs_no_answers(tmp_path: Path, campaign: Campaign) -> None:
    """Health says SERVING throughout, memory stays bounded, and the calls beyond are refused."""
    # In full with answers as long as they are where a caller does not say.
    seconds, num_tokens = (60.0, DEFAULT_MAX_TOKENS) if os.environ.get(FULL) else (4.0, 32)
    at_a_stretch: list[float] = []

    def case(seed: int) -> None:
        figures = measure_load(CHECKPOINT, tmp_path / str(seed), seconds, num_tokens)
        assert figures["health_checks_unwell"] == 0
        assert figures["refused"].keys() <= {"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
        assert figures["refused_without_delay"] == 0
        assert figures["goodput"] > 0
        if os.environ.get(FULL):
            # A busy machine tells nothing about shares of a few seconds.
            kept = figures["goodput_over_peak"] * figures["answered_in_time"]
            campaign.note("F8", "goodput_lost", 1 - kept)
            peak = figures["peak_answers_per_second"]
            at_a_stretch.append(figures["goodput_at_a_stretch"] / peak)
            assert kept >= 0.9
            assert figures["memory_second_half_over_first"] <= 1.05

    campaign.run("F8", case, full=10, short=1)
    if os.environ.get(FULL):
        # A machine is slower in one minute than in that of the peak, and faster in another.
        campaign.note("F8", "goodput_lost_at_a_stretch", 1 - statistics.mean(at_a_stretch))
        assert statistics.mean(at_a_stretch) >= 0.9
