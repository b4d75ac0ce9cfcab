"""F4: whatever happens to Redis, every retrieval answers what the bank has, and soon."""

from __future__ import annotations

import os
import re
import statistics
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from memory3_retriever.caches.redis_address import RedisAddress

from memory3.v1 import retriever_pb2
from tests.faults.campaign import FULL, Campaign
from tests.faults.redis_faults import FaultyRedis
from tests.faults.retrievers import RetrieverProcess
from tests.redis_topologies import SentinelServers, free_port
from tests.unit.retriever.encoder_double import envelope_of
from tests.waiting import eventually

pytestmark = pytest.mark.redis

BANK = "docs"
MOST_S = 0.15
# A short run shows that answers are right and Redis is used again, on however busy a machine.
PATIENCE = "" if os.environ.get(FULL) else "?socket_timeout=0.4"
# A connection and one more for each reading that fails, and the writer's.
MOST_CONNECTIONS = 3


class CachedRetriever:
    """A real retriever with Redis as its cache, and what it must answer.

    Attributes:
        process: The retriever.
        expected: The memory of each reference.
    """

    def __init__(self, folder: Path, cache: str) -> None:
        self._metrics = free_port()
        self.process = RetrieverProcess(
            folder, "--cache", cache, "--metrics-port", str(self._metrics)
        )
        self.process.start()
        self.process.create(BANK)
        self.expected: dict[str, bytes] = {}

    def add(self, texts: list[str]) -> None:
        """Add references; from now on they are retrieved as well."""
        digest = self.process.checkpoint.digest
        for each, text in zip(self.process.add(BANK, texts), texts, strict=True):
            self.expected[each] = envelope_of(text, digest)

    def forget(self) -> None:
        """Start over with an empty bank."""
        if self.expected:
            self.process.delete(BANK, self.expected)
        self.expected.clear()

    def retrieve(self) -> float:
        """Retrieve everything, which must be exactly what the bank has; the seconds it took."""
        begun = time.monotonic()
        assert self.process.retrieve(BANK, self.expected) == self.expected
        return time.monotonic() - begun

    def hits(self) -> int:
        """Memories that came from the cache so far."""
        info = retriever_pb2.RetrieverServiceGetInfoRequest()
        return self.process.stub.GetInfo(info).cache_hits

    def uses_cache(self) -> bool:
        """Whether one more retrieval has all its memories from the cache."""
        before = self.hits()
        self.retrieve()
        return self.hits() == before + len(self.expected)

    def count(self, name: str, **labels: str) -> float:
        """What a metric counts, over all samples with these labels."""
        url = f"http://127.0.0.1:{self._metrics}/metrics"
        with urllib.request.urlopen(url) as page:
            text = page.read().decode()
        samples = re.findall(rf"^{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE)
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(v) for found, v in samples if all(each in found for each in wanted))

    def close(self) -> None:
        """End it."""
        self.process.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the servers of this file."""
    return tmp_path_factory.mktemp("f4")


@pytest.fixture(scope="module")
def redis_with_faults(folder: Path) -> Iterator[FaultyRedis]:
    """A Redis behind a proxy."""
    with FaultyRedis.started(folder / "redis") as faulty:
        yield faulty


@pytest.fixture(scope="module")
def retriever(folder: Path, redis_with_faults: FaultyRedis) -> Iterator[CachedRetriever]:
    """A retriever that asks it."""
    running = CachedRetriever(folder, redis_with_faults.url + PATIENCE)
    yield running
    running.close()


def test_f4_no_fault_of_redis_reaches_an_answer(
    retriever: CachedRetriever, redis_with_faults: FaultyRedis, campaign: Campaign
) -> None:
    """Each fault while memories are retrieved and added; afterwards Redis is used again."""
    added_s: list[float] = []
    kinds = [*redis_with_faults.faults]

    def case(seed: int) -> None:
        rng = Random(seed)
        fault = redis_with_faults.faults[kinds[seed % len(kinds)]]
        retriever.forget()
        retriever.add([f"before {seed} {n}" for n in range(rng.randint(1, 30))])
        assert eventually(retriever.uses_cache)
        peace_s = min(retriever.retrieve() for _ in range(3))
        connections = redis_with_faults.proxy.num_connections
        failed = retriever.count("memory3_cache_errors_total")
        with fault(rng):
            added_s.append(retriever.retrieve() - peace_s)
            retriever.add([f"during {seed} {n}" for n in range(rng.randint(1, 5))])
            for _ in range(rng.randint(1, 3)):
                retriever.retrieve()
            connections = redis_with_faults.proxy.num_connections - connections
        failed = retriever.count("memory3_cache_errors_total") - failed
        assert connections <= MOST_CONNECTIONS * max(1, failed)
        assert eventually(retriever.uses_cache)

    campaign.run("F4", case, full=165, short=len(kinds))
    _require_soon(added_s, campaign)


def test_f4_a_failover_of_sentinels_reaches_no_answer(folder: Path, campaign: Campaign) -> None:
    """The master is replaced, by command or because it died, while memories are retrieved."""
    added_s: list[float] = []

    def case(seed: int) -> None:
        rng = Random(seed)
        with SentinelServers.started() as servers:
            place = folder / f"sentinels-{seed}"
            place.mkdir()
            retriever = CachedRetriever(place, servers.url + PATIENCE)
            try:
                retriever.add([f"text {seed} {n}" for n in range(rng.randint(1, 30))])
                assert eventually(retriever.uses_cache)
                peace_s = min(retriever.retrieve() for _ in range(3))
                if seed % 2:
                    servers.change_over()
                else:
                    servers.master.kill()
                added_s.append(retriever.retrieve() - peace_s)
                retriever.add([f"during {seed}"])
                for _ in range(3):
                    retriever.retrieve()
                assert eventually(retriever.uses_cache)
            finally:
                retriever.close()

    campaign.run("F4", case, full=15, short=1)
    _require_soon(added_s, campaign)


def test_f4_the_budget_is_what_the_table_allows() -> None:
    """No reading waits longer than this, however busy the machine: it is a limit, not a measure."""
    assert RedisAddress.parse("redis://h").budget_s < MOST_S


def _require_soon(added_s: list[float], campaign: Campaign) -> None:
    """In a full campaign what the first retrieval of a fault took longer is measured and kept."""
    if os.environ.get(FULL) and added_s:
        campaign.note("F4", "added_ms_median", round(statistics.median(added_s) * 1e3, 1))
        campaign.note("F4", "added_ms_most", round(max(added_s) * 1e3, 1))
        assert statistics.median(added_s) <= MOST_S
