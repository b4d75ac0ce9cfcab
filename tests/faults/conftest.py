"""One tally for the whole run, written where `make faults` and `make attacks` want it; one stack
behind proxies for those that harm networks; one canary for those that plant pickles.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory3.client import Client
from tests.e2e.chain import people
from tests.faults.campaign import REPORT, Campaign, Tally
from tests.faults.canaries import Canary
from tests.faults.proxied import ProxiedServices


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


@pytest.fixture(scope="session")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedServices]:
    """The three services behind proxies, with a bank ``people``; heal them after each fault."""
    folder = tmp_path_factory.mktemp("proxied")
    # Nothing is held, so that every chunk needs the retriever.
    with ProxiedServices(folder, MEMORY3_DECODER_MEMORY_CACHE_BYTES="0") as running:
        with running.services.client() as client:
            client.create_bank("people")
            client.add("people", people(10, 5))
        yield running


@pytest.fixture
def client(proxied: ProxiedServices) -> Iterator[Client]:
    """A client of the proxied stack."""
    with proxied.client() as connected:
        yield connected


@pytest.fixture
def canary() -> Iterator[Canary]:
    """What no test may bring to life."""
    with tempfile.TemporaryDirectory(prefix="a1-") as folder:
        bird = Canary(Path(folder) / "canary")
        yield bird
        assert not bird.was_made
