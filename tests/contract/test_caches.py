"""The cache family's contract, run against every cache there is."""

from typing import Any

import pytest
from memory3_retriever.caches.base import NoCache, open_cache
from memory3_retriever.caches.local import LocalCache
from memory3_retriever.caches.redis import RedisCache

from memory3 import plugins
from memory3.errors import InvalidArgumentError, PluginNotFoundError
from memory3.testing.caches import CacheContract, CacheLike, key_of
from tests.redis_server import RedisServer


class TestLocalCache(CacheContract):
    """The cache in the process."""

    bad_arguments = ("", "5", "5MB", "0MiB", "-1MiB", "1.5GiB", "9999999GiB")

    def make(self) -> CacheLike:
        """With room for what the contract puts in."""
        return LocalCache.from_argument("8MiB")


@pytest.mark.redis
class TestRedisCache(CacheContract):
    """The shared cache, against a real server."""

    bad_arguments = (
        *(None, "", "localhost:6379", "http://localhost", "redis://", "redis://h:x/0"),
        *(f"redis://h/0?{query}" for query in ("socket_timeout=0", "socket_timeout=x", "no=1")),
    )

    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer) -> None:
        self._url = redis_server.patient_url

    def make(self) -> CacheLike:
        """On the test's own server."""
        return RedisCache.from_argument(self._url)

    def settle(self, cache: Any) -> None:
        """Writing goes on in the background."""
        cache.settle()


def test_the_plugins_are_installed() -> None:
    """The built-ins register as a stranger's package would."""
    assert plugins.load("caches", "local") is LocalCache
    assert plugins.load("caches", "redis") is RedisCache


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
