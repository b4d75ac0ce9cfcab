"""Two caches in a row: verified once, moved nearer, counted apart, waited for so long."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import pytest
import redis
from memory3_retriever.caches.base import Cache, MemoryKey, NoCache
from memory3_retriever.caches.redis import RedisCache
from memory3_retriever.caches.tiered import TieredCache
from memory3_retriever.retrieval.memories import BATCH

from tests.redis_server import RedisServer
from tests.unit.retriever.calls import add_references, named_query, retrieve
from tests.unit.retriever.conftest import RunningRetriever

TEXTS = [f"text {number}" for number in range(6)]


def far_of(retriever: RunningRetriever) -> RedisCache:
    """The second layer."""
    return cast(RedisCache, retriever.loaded.cache.layers[1])


@pytest.mark.redis
def test_what_redis_has_is_moved_nearer_once_it_is_verified(
    start_retriever: Callable[..., RunningRetriever], redis_server: RedisServer
) -> None:
    """After a restart Redis answers, then the process itself; damaged values are not moved."""
    cache = f"tiered:local,redis:{redis_server.patient_url}"
    retriever = start_retriever(cache=cache)
    retriever.create()
    query = named_query(*(result.id for result in add_references(retriever, *TEXTS)))
    good = retrieve(retriever, query).envelopes
    far_of(retriever).settle()
    with redis.Redis.from_url(redis_server.url) as client:
        client.set(client.keys("*")[0], b"noise")
    retriever = start_retriever(cache=cache)

    def outcomes(cache: str) -> tuple[float, float]:
        name = "memory3_cache_requests_total"
        return (
            retriever.sample(name, cache=cache, outcome="hit"),
            retriever.sample(name, cache=cache, outcome="miss"),
        )

    assert retrieve(retriever, query).envelopes == good
    assert (outcomes("local"), outcomes("redis")) == ((0, 6), (6, 0))
    assert retriever.sample("memory3_memories_total", origin="cache") == 5
    assert retriever.sample("memory3_memories_total", origin="bank") == 1
    assert retriever.sample("memory3_cache_rejected_total", reason="CORRUPT_DATA") == 1
    # The damaged one came from the bank, and is near as well.
    assert retrieve(retriever, query).envelopes == good
    assert (outcomes("local"), outcomes("redis")) == ((6, 6), (6, 0))
    assert retriever.sample("memory3_cache_held_bytes", cache="local") > 0
    assert retriever.sample("memory3_cache_breaker_open", cache="redis", side="reading") == 0


class SlowCache(NoCache):
    """Has nothing, and takes as much of its time as it is given."""

    budget_s = 0.02

    def __init__(self) -> None:
        self.given_s: list[float] = []

    def get_many(self, keys: Sequence[MemoryKey], within_s: float = 0) -> dict[MemoryKey, bytes]:
        """Nothing."""
        self.given_s.append(within_s)
        time.sleep(self.budget_s * 0.6)
        return {}

    def put_many(self, values: Mapping[MemoryKey, bytes]) -> None:
        """Pass the values over."""


def test_one_retrieval_waits_for_a_cache_so_long_and_no_longer(
    retriever: RunningRetriever,
) -> None:
    """However many memories it asks for: the rest is read from the bank at once."""
    retriever.create()
    added = add_references(retriever, *(f"text {number}" for number in range(4 * BATCH)))
    query = named_query(*(result.id for result in added))
    slow = SlowCache()
    reader = retriever.loaded.models.main.memories
    before, reader.cache = reader.cache, TieredCache(NoCache(), cast(Cache, slow))
    assert len(retrieve(retriever, query).envelopes) == 4 * BATCH
    reader.cache = before
    assert 1 <= len(slow.given_s) <= 2
    assert slow.given_s[0] == slow.budget_s
    assert all(given < slow.budget_s for given in slow.given_s[1:])
