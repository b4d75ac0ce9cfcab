"""Redis gone, slow, full, read-only or lying: never an error, and hardly any time.

Time is told by counting attempts at the server: what the machine is busy with is no matter.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Self

import pytest
import redis
from memory3_retriever.caches.base import MemoryKey
from memory3_retriever.caches.breaker import CircuitBreaker
from memory3_retriever.caches.redis import RedisCache
from memory3_retriever.caches.redis_address import RedisAddress

from tests.redis_server import RedisServer
from tests.redis_topologies import free_port
from tests.unit.retriever.clocks import Clock
from tests.waiting import eventually

pytestmark = pytest.mark.redis

KEYS = [MemoryKey("b" * 32, "d" * 64, f"{number:032x}") for number in range(5)]
VALUES = {key: bytes(1000) for key in KEYS}
# What F4 of the fault table allows one retrieval to lose.
MOST_SECONDS = 0.15


class Impostor:
    """Something that listens where a Redis should: it counts who comes, and reads what they ask.

    Attributes:
        answer: What it answers to every request; nothing at all if empty.
        drips: Whether it goes on answering, a byte at a time.
        num_connections: How many have connected.
    """

    def __init__(self, answer: bytes, *, drips: bool = False) -> None:
        self.answer = answer
        self.drips = drips
        self.num_connections = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._server.getsockname()[1]}/0"
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._server.close()

    def _start(self, work: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=work))
        self._threads[-1].start()

    def _accept(self) -> None:
        self._server.settimeout(0.02)
        while not self._stop.is_set():
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                continue
            self.num_connections += 1
            self._start(partial(self._serve, connection))

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(0.02)
            while not self._stop.is_set():
                try:
                    if not connection.recv(4096):
                        return
                except TimeoutError:
                    continue
                connection.sendall(self.answer)
                while self.drips and not self._stop.wait(0.02):
                    connection.sendall(b"x")


@pytest.fixture
def black_hole() -> Iterator[Impostor]:
    """A server that accepts connections and never answers."""
    with Impostor(b"") as server:
        yield server


@pytest.fixture
def liar() -> Iterator[Impostor]:
    """A server that answers every request with the same nonsense."""
    with Impostor(b"!bogus\r\n") as server:
        yield server


def _cache(url: str, *, clock: Callable[[], float] = time.monotonic) -> RedisCache:
    return RedisCache(RedisAddress.parse(url), clock=clock)


def test_a_refused_connection_is_as_good_as_nothing() -> None:
    """Nobody listens: the answer is nothing, and no retrieval tries again for a while."""
    cache = _cache(f"redis://127.0.0.1:{free_port()}/0", clock=Clock())
    assert cache.get_many(KEYS) == {}
    assert not cache._reading.allows()
    cache.put_many(VALUES)
    cache.settle()
    cache.close()


def test_a_black_hole_costs_one_pair_of_timeouts_then_nothing(black_hole: Impostor) -> None:
    """The circuit opens after the first fault, so the next retrievals do not wait at all.

    Every attempt has a connection of its own, and a retrieval waits for the budget at most.
    """
    clock = Clock()
    cache = _cache(f"{black_hole.url}?socket_timeout=0.2", clock=clock)
    assert RedisAddress.parse(black_hole.url).budget_s <= MOST_SECONDS
    for num_faults in (1, 2):
        assert [cache.get_many(KEYS) for _ in range(20)] == [{}] * 20
        (report,) = cache.report()
        assert report.errors == {"timeout": num_faults}
        assert report.requests["failed"] == num_faults * len(KEYS)
        assert eventually(lambda: black_hole.num_connections >= 1)
        assert black_hole.num_connections <= 2 * num_faults
        clock.now += 0.6
    cache.close()


def test_nonsense_is_as_good_as_nothing(liar: Impostor) -> None:
    """Another program behind the address does no harm, and is left alone as well."""
    cache = _cache(f"{liar.url}?socket_timeout=30", clock=Clock())
    cache.put_many(VALUES)
    cache.settle()
    assert [cache.get_many(KEYS) for _ in range(20)] == [{}] * 20
    cache.close()
    # One that wrote, one that read; nonsense is not worth a second try.
    assert eventually(lambda: liar.num_connections == 2)


def test_a_killed_server_is_found_again(own_redis_server: RedisServer) -> None:
    """Killed in the midst of use it is missed by nobody; back again it serves again."""
    clock = Clock()
    cache = _cache(own_redis_server.patient_url, clock=clock)
    cache.put_many(VALUES)
    cache.settle()
    assert cache.get_many(KEYS) == VALUES
    own_redis_server.kill()
    assert cache.get_many(KEYS) == {}
    cache.put_many(VALUES)
    cache.settle()
    own_redis_server.start()
    assert cache.get_many(KEYS) == {}
    clock.now += 0.6
    # The first that looks finds it back, though empty; from then on it is written to again.
    assert cache.get_many(KEYS) == {}
    cache.put_many(VALUES)
    cache.settle()
    assert cache.get_many(KEYS) == VALUES
    cache.close()


def test_a_full_server_still_answers_reads(own_redis_server: RedisServer) -> None:
    """Out of memory concerns writing alone."""
    cache = _cache(own_redis_server.patient_url)
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
    cache = _cache(own_redis_server.patient_url)
    with redis.Redis.from_url(own_redis_server.url) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
    cache.put_many(VALUES)
    cache.settle()
    assert cache.get_many(KEYS) == {}
    assert not cache._reading.is_open
    cache.close()


def test_a_value_of_another_type_is_as_good_as_nothing(redis_server: RedisServer) -> None:
    """Someone else's list under our key does not hide the other values."""
    cache = _cache(redis_server.patient_url)
    cache.put_many(VALUES)
    cache.settle()
    with redis.Redis.from_url(redis_server.url) as client:
        client.delete(str(KEYS[0]))
        client.lpush(str(KEYS[0]), "x")
    assert cache.get_many(KEYS) == {key: VALUES[key] for key in KEYS[1:]}
    cache.close()


def test_keys_expire_and_stay_on_one_node(redis_server: RedisServer) -> None:
    """Whatever is not deleted goes in a day; the bank's part of a key is its hash tag."""
    cache = _cache(redis_server.patient_url)
    cache.put_many(VALUES)
    cache.settle()
    with redis.Redis.from_url(redis_server.url) as client:
        names = client.keys("*")
        assert {client.ttl(name) > 80_000 for name in names} == {True}
    assert all(name.startswith(b"memory3:{" + b"b" * 32 + b"}:") for name in names)
    cache.close()


def test_the_breaker_waits_longer_after_each_fault_and_lets_one_try() -> None:
    """Half a second, doubling; of many callers after the pause one tries; success ends it."""
    clock = Clock()
    breaker = CircuitBreaker(first_pause_s=0.5, max_pause_s=1.5, clock=clock)
    assert breaker.allows()
    breaker.failed()
    clock.now += 0.49
    assert not breaker.allows()
    clock.now += 0.02
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    for pause in (1.0, 1.5, 1.5):
        breaker.failed()
        clock.now += pause - 0.01
        assert not breaker.allows()
        clock.now += 0.02
        assert breaker.allows()
    breaker.succeeded()
    assert [breaker.allows() for _ in range(3)] == [True, True, True]


def test_many_that_fail_together_make_one_pause() -> None:
    """They were all let in before the first fault, so the pause is that after one."""
    clock = Clock()
    breaker = CircuitBreaker(first_pause_s=0.5, clock=clock)
    assert [breaker.allows() for _ in range(9)] == [True] * 9
    assert [breaker.failed() for _ in range(9)] == [True] + [False] * 8
    clock.now += 0.51
    assert breaker.allows()
    assert breaker.failed()
    clock.now += 0.51
    assert not breaker.allows()


def test_an_answer_that_drips_is_waited_for_no_longer_than_another() -> None:
    """Each byte comes in time, but the answer would take hours; the time limit is for all of it."""
    with Impostor(b"*1\r\n$1000000\r\n", drips=True) as server:
        cache = _cache(f"{server.url}?socket_timeout=0.2", clock=Clock())
        assert cache.get_many(KEYS[:1]) == {}
        (report,) = cache.report()
        assert report.errors == {"timeout": 1}
        assert report.breakers["reading"]
        cache.close()
