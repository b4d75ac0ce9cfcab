"""The cache family's contract, run against every cache there is."""

from typing import Any

import pytest
from memory3_retriever.caches.base import NoCache, open_cache
from memory3_retriever.caches.local import LocalCache
from memory3_retriever.caches.redis import RedisCache
from memory3_retriever.caches.tiered import TieredCache

from memory3 import plugins
from memory3.errors import InvalidArgumentError, PluginNotFoundError
from memory3.testing.caches import CacheContract, CacheLike, key_of
from tests.redis_server import RedisServer
from tests.redis_topologies import ClusterServers, SentinelServers


class TestLocalCache(CacheContract):
    """The cache in the process."""

    bad_arguments = ("", "5", "5MB", "0MiB", "-1MiB", "1.5GiB", "9999999GiB")

    def make(self) -> CacheLike:
        """With room for what the contract puts in."""
        return LocalCache.from_argument("8MiB")


class SharedCacheContract(CacheContract):
    """What all caches in Redis are made with and asked to refuse."""

    bad_arguments = (
        *(None, "", "localhost:6379", "http://localhost", "redis://", "redis://h:x/0"),
        *("redis+sentinel://h", "redis+cluster://h/1", "redis+other://h", "rediss+cluster://"),
        *(f"redis://h/0?{query}" for query in ("socket_timeout=0", "socket_timeout=x", "no=1")),
    )
    url: str

    def make(self) -> CacheLike:
        """On the test's own server."""
        return RedisCache.from_argument(self.url)

    def settle(self, cache: Any) -> None:
        """Writing goes on in the background."""
        cache.settle()


@pytest.mark.redis
class TestRedisCache(SharedCacheContract):
    """The shared cache, against a real server."""

    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer) -> None:
        self.url = redis_server.patient_url


@pytest.mark.redis
class TestRedisCacheOfSentinels(SharedCacheContract):
    """The same by way of Sentinels, the first of which is dead."""

    @pytest.fixture(autouse=True)
    def _servers(self, shared_sentinels: SentinelServers) -> None:
        shared_sentinels.flush()
        self.url = shared_sentinels.patient_url


@pytest.mark.redis
class TestRedisCacheOfACluster(SharedCacheContract):
    """The same in a cluster, of which a dead node is named first."""

    @pytest.fixture(autouse=True)
    def _servers(self, shared_cluster: ClusterServers) -> None:
        shared_cluster.flush()
        self.url = shared_cluster.patient_url


@pytest.mark.redis
class TestTieredCache(CacheContract):
    """A cache in the process before a shared one."""

    bad_arguments = (
        None,
        "",
        "local",
        "local,",
        ",none",
        "local:5,none",
        "none,local",
        "local,redis:x",
    )

    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer) -> None:
        self._url = redis_server.patient_url

    def make(self) -> CacheLike:
        """The near one has room for less than the contract puts in."""
        return TieredCache.from_argument(f"local:1MiB,redis:{self._url}")

    def settle(self, cache: Any) -> None:
        """The far one writes in the background."""
        for layer in cache.layers[1:]:
            layer.settle()


def test_the_plugins_are_installed() -> None:
    """The built-ins register as a stranger's package would."""
    assert plugins.load("caches", "local") is LocalCache
    assert plugins.load("caches", "redis") is RedisCache
    assert plugins.load("caches", "tiered") is TieredCache


def test_none_keeps_nothing() -> None:
    """The word none is no plugin but the absence of one."""
    cache = open_cache("none")
    cache.put_many({key_of(1): b"value"})  # type: ignore[dict-item]
    assert isinstance(cache, NoCache)
    assert cache.get_many([]) == {}
    assert cache.describe() == "none"
    with pytest.raises(InvalidArgumentError):
        open_cache("none:what")


def test_an_unknown_cache_lists_those_there_are() -> None:
    """A mistyped name is answered with the names that exist."""
    with pytest.raises(PluginNotFoundError, match="local"):
        open_cache("memcached:host")


def test_the_local_cache_stays_within_its_bytes() -> None:
    """What was used last is kept, and keys and values never take more than was allowed."""
    cache = LocalCache(100_000)
    for number in range(100):
        cache.put_many({key_of(number): bytes(5000)})  # type: ignore[dict-item]
        cache.get_many([key_of(0)])  # type: ignore[list-item]
        assert cache.num_bytes <= 100_000
    assert cache.get_many([key_of(0)]) == {key_of(0): bytes(5000)}  # type: ignore[list-item,comparison-overlap]
    assert cache.get_many([key_of(1)]) == {}  # type: ignore[list-item]
