"""Redis gone, slow, full, read-only or lying: never an error, and hardly any time."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import redis
from memory3_retriever.caches.base import MemoryKey
from memory3_retriever.caches.breaker import CircuitBreaker
from memory3_retriever.caches.redis import RedisCache

from tests.redis_server import RedisServer

pytestmark = pytest.mark.redis

KEYS = [MemoryKey("b" * 32, "d" * 64, f"{number:032x}") for number in range(5)]
VALUES = {key: bytes(1000) for key in KEYS}
# What F4 of the fault table allows one retrieval to lose.
MOST_SECONDS = 0.15


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


@pytest.fixture
def liar() -> Iterator[str]:
    """A server that answers every request with the same nonsense."""
    server = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def answer() -> None:
        server.settimeout(0.05)
        while not stop.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(0.2)
                try:
                    while connection.recv(4096):
                        connection.sendall(b"!bogus\r\n")
                except OSError:
                    pass

    thread = threading.Thread(target=answer)
    thread.start()
    yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"
    stop.set()
    thread.join()
    server.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def seconds_of(cache: RedisCache) -> float:
    """How long one look takes that finds nothing."""
    started = time.monotonic()
    assert cache.get_many(KEYS) == {}
    return time.monotonic() - started


def test_a_refused_connection_costs_next_to_nothing() -> None:
    """Nobody listens: the answer is nothing, at once."""
    cache = RedisCache(f"redis://127.0.0.1:{free_port()}/0")
    cache.put_many(VALUES)
    assert seconds_of(cache) < MOST_SECONDS
    cache.settle()
    cache.close()


def test_a_black_hole_costs_one_pair_of_timeouts_then_nothing(black_hole: str) -> None:
    """The circuit opens after the first fault, so the next retrievals do not wait at all."""
    cache = RedisCache(black_hole)
    assert seconds_of(cache) < MOST_SECONDS
    assert sum(seconds_of(cache) for _ in range(20)) < 0.5
    cache.close()


def test_nonsense_is_as_good_as_nothing(liar: str) -> None:
    """Another program behind the address does no harm."""
    cache = RedisCache(liar)
    cache.put_many(VALUES)
    assert seconds_of(cache) < MOST_SECONDS
    cache.settle()
    cache.close()


def test_a_killed_server_is_found_again(own_redis_server: RedisServer) -> None:
    """Killed in the midst of use it is missed by nobody; back again it serves again."""
    cache = RedisCache(own_redis_server.url)
    cache.put_many(VALUES)
    cache.settle()
    assert cache.get_many(KEYS) == VALUES
    own_redis_server.kill()
    assert seconds_of(cache) < MOST_SECONDS
    cache.put_many(VALUES)
    own_redis_server.start()
    end = time.monotonic() + 10
    found: dict[MemoryKey, bytes] = {}
    while not found and time.monotonic() < end:
        cache.put_many(VALUES)
        time.sleep(0.1)
        found = cache.get_many(KEYS)
    assert found == VALUES
    cache.close()


def test_a_full_server_still_answers_reads(own_redis_server: RedisServer) -> None:
    """Out of memory concerns writing alone."""
    cache = RedisCache(own_redis_server.url)
    cache.put_many(VALUES)
    cache.settle()
    with redis.Redis.from_url(own_redis_server.url) as client:
        client.config_set("maxmemory", "1")
        client.config_set("maxmemory-policy", "noeviction")
    cache.put_many({MemoryKey("b", "d", "new"): bytes(10)})
    cache.settle()
    assert cache.get_many(KEYS) == VALUES
    cache.close()


def test_a_read_only_replica_still_answers_reads(own_redis_server: RedisServer) -> None:
    """So is a failover under way."""
    cache = RedisCache(own_redis_server.url)
    with redis.Redis.from_url(own_redis_server.url) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
    cache.put_many(VALUES)
    cache.settle()
    assert cache.get_many(KEYS) == {}
    assert not cache._reading.is_open
    cache.close()


def test_a_value_of_another_type_is_as_good_as_nothing(redis_server: RedisServer) -> None:
    """Someone else's list under our key does not hide the other values."""
    cache = RedisCache(redis_server.url)
    cache.put_many(VALUES)
    cache.settle()
    with redis.Redis.from_url(redis_server.url) as client:
        client.delete(str(KEYS[0]))
        client.lpush(str(KEYS[0]), "x")
    assert cache.get_many(KEYS) == {key: VALUES[key] for key in KEYS[1:]}
    cache.close()


def test_keys_expire_and_stay_on_one_node(redis_server: RedisServer) -> None:
    """Whatever is not deleted goes in a day; the bank's part of a key is its hash tag."""
    cache = RedisCache(redis_server.url)
    cache.put_many(VALUES)
    cache.settle()
    with redis.Redis.from_url(redis_server.url) as client:
        names = client.keys("*")
        assert {client.ttl(name) > 80_000 for name in names} == {True}
    assert all(name.startswith(b"memory3:{" + b"b" * 32 + b"}:") for name in names)
    cache.close()


@pytest.mark.parametrize(
    ("url", "described"),
    [
        ("redis://user:secret@127.0.0.1:6380/2", "redis:redis://127.0.0.1:6380/2"),
        ("rediss://:secret@cache.internal/0", "redis:rediss://cache.internal/0"),
        ("unix://user:secret@/run/redis.sock?db=3", "redis:unix:///run/redis.sock"),
    ],
)
def test_no_credential_is_ever_told(url: str, described: str) -> None:
    """Neither by the description nor by a refusal."""
    cache = RedisCache(url)
    assert cache.describe() == described
    cache.close()


def test_the_breaker_waits_longer_after_each_fault_and_lets_one_try() -> None:
    """Half a second, doubling; of many callers after the pause one tries; success ends it."""
    breaker = CircuitBreaker(first_pause_s=0.02, max_pause_s=0.05)
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows()
    time.sleep(0.03)
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.failed()
    breaker.failed()
    assert breaker._pause_s == 0.05
    time.sleep(0.06)
    assert breaker.allows()
    breaker.succeeded()
    assert [breaker.allows() for _ in range(3)] == [True, True, True]
