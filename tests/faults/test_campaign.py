"""The counting of faults: everything is run, what fails is named and counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.campaign import FULL, ONE_SEED, Campaign, Tally


def test_all_seeds_are_run_and_those_that_fail_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of five fail: the others are run all the same."""
    monkeypatch.delenv(FULL, raising=False)
    monkeypatch.delenv(ONE_SEED, raising=False)
    tally, seen = Tally(), []

    def case(seed: int) -> None:
        seen.append(seed)
        if seed in (1, 3):
            raise ValueError(f"broken by {seed}")

    with pytest.raises(AssertionError, match=r"(?s)T1: 2 of 5.*seed 1.*broken by 3"):
        Campaign(tally).run("T1", case, full=50, short=5)
    assert seen == [0, 1, 2, 3, 4]
    tally.write(tmp_path / "build" / "faults.json")
    written = json.loads((tmp_path / "build" / "faults.json").read_text())
    assert written == {"T1": {"runs": 5, "failed": 2}}


@pytest.mark.parametrize(
    ("variable", "value", "expected"), [(FULL, "1", [0, 1, 2]), (ONE_SEED, "7", [7])]
)
def test_a_campaign_is_run_in_full_or_one_seed_again(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: list[int]
) -> None:
    """As the environment says."""
    for name in (FULL, ONE_SEED):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    seen: list[int] = []
    Campaign(Tally()).run("T2", seen.append, full=3, short=1)
    assert seen == expected
