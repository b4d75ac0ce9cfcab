"""One tally for the whole run, written where `make faults` and `make attacks` want it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.campaign import REPORT, Campaign, Tally


@pytest.fixture(scope="session")
def _tally() -> Iterator[Tally]:
    tally = Tally()
    yield tally
    if REPORT in os.environ:
        tally.write(Path(os.environ[REPORT]))


@pytest.fixture
def campaign(_tally: Tally) -> Campaign:
    """Runs a fault from many seeds."""
    return Campaign(_tally)
