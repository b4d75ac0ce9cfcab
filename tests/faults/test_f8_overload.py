"""F8: ten times as many calls as can be served: those that are served are served as ever."""

from __future__ import annotations

import os
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
    # In full with answers as long as they are where a caller does not say. Of shorter ones this
    # small model gives so many that refusing nine times as many takes processor time from it.
    seconds, num_tokens = (60.0, DEFAULT_MAX_TOKENS) if os.environ.get(FULL) else (4.0, 32)

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
            assert kept >= 0.9
            assert figures["memory_second_half_over_first"] <= 1.05

    campaign.run("F8", case, full=10, short=1)
