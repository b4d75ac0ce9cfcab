"""A1: a pickle in every place from which something is loaded: refused, and never run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.faults.campaign import Campaign
from tests.faults.canaries import CARELESS, Canary
from tests.faults.pickled_files import Templates

NAMES = tuple(CARELESS)


@pytest.mark.parametrize("name", NAMES)
def test_the_canary_would_be_made(canary: Canary, tmp_path: Path, name: str) -> None:
    """Loaded without care, each of the files does what it is made for."""
    assert canary.kills(name, tmp_path)


def test_no_file_is_unpickled(tmp_path: Path, canary: Canary, campaign: Campaign) -> None:
    """Checkpoints, banks, indexes, snapshots, training data and states, tokens, texts."""
    places = list(Templates(tmp_path / "templates").places())
    rounds = len(NAMES)
    cases = [(place, NAMES[(number + turn) % rounds]) for turn in range(rounds)
             for number, place in enumerate(places)]  # fmt: skip

    def case(number: int) -> None:
        (told, place), name = cases[number]
        work = tmp_path / f"case-{number}"
        work.mkdir()
        try:
            place(canary.payloads[name], work)
        except BaseException as error:
            raise AssertionError(f"{told}, {name}") from error
        finally:
            shutil.rmtree(work)
        assert not canary.was_made, (told, name)

    campaign.run("A1", case, full=len(cases), short=len(places))
