"""Callers that want the same memory at the same time cost Redis one reading and one writing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from memory3_retriever.caches.base import MemoryKey
from memory3_retriever.caches.counts import CacheReport
from memory3_retriever.caches.flights import SharedReads
from memory3_retriever.caches.redis import RedisCache

from tests.redis_server import RedisServer
from tests.waiting import eventually

pytestmark = pytest.mark.redis

NUM_CALLERS = 12
KEYS = [MemoryKey("b" * 32, "d" * 64, f"{n:032x}") for n in range(4)]
VALUES = {key: str(key).encode() for key in KEYS}


def report(cache: RedisCache) -> CacheReport:
    """What a cache has counted."""
    (counted,) = cache.report()
    return counted


def num_calls(server: RedisServer, command: str) -> int:
    """How often a server has carried out a command."""
    with server.client() as client:
        return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


def test_many_callers_are_one_command(own_redis_server: RedisServer) -> None:
    """While Redis does not answer all callers come; then it is asked once and all have answers."""
    cache = RedisCache.from_argument(own_redis_server.patient_url)
    cache.put_many(VALUES)
    cache.settle()
    own_redis_server.freeze()
    with ThreadPoolExecutor(NUM_CALLERS) as pool:
        arrived = threading.Semaphore(0)

        def call(_: int) -> dict[MemoryKey, bytes]:
            arrived.release()
            return cache.get_many(KEYS)

        answers = [pool.submit(call, number) for number in range(NUM_CALLERS)]
        for _ in range(NUM_CALLERS):
            arrived.acquire()
        # Each caller has either begun the one flight or joined it.
        assert eventually(lambda: cache._reads.num_waiting == NUM_CALLERS)
        own_redis_server.thaw()
        assert [answer.result() for answer in answers] == [VALUES] * NUM_CALLERS
    assert num_calls(own_redis_server, "mget") == 1
    assert report(cache).shared == (NUM_CALLERS - 1) * len(KEYS)
    assert report(cache).requests["hit"] == NUM_CALLERS * len(KEYS)
    cache.close()


def test_what_many_callers_missed_is_written_once(own_redis_server: RedisServer) -> None:
    """The same value that waits for the writer already is not handed to it again."""
    cache = RedisCache.from_argument(own_redis_server.patient_url)
    own_redis_server.freeze()
    cache.put_many({KEYS[0]: b"first"})
    for _ in range(NUM_CALLERS):
        cache.put_many(VALUES)
    own_redis_server.thaw()
    cache.settle()
    assert num_calls(own_redis_server, "set") == 1 + len(VALUES)
    assert cache.get_many(KEYS) == VALUES
    # What has been written is written again when it is put again: Redis may have lost it.
    own_redis_server.flush()
    cache.put_many(VALUES)
    cache.settle()
    assert cache.get_many(KEYS) == VALUES
    cache.close()


def test_a_value_deleted_in_between_is_written_again(own_redis_server: RedisServer) -> None:
    """Put, deleted and put while the writer waits: the last counts."""
    cache = RedisCache.from_argument(own_redis_server.patient_url)
    own_redis_server.freeze()
    for _ in range(2):
        cache.put_many(VALUES)
        cache.delete_many(KEYS[:1])
    cache.put_many(VALUES)
    cache.delete_many(KEYS[1:2])
    own_redis_server.thaw()
    cache.settle()
    assert cache.get_many(KEYS) == {key: VALUES[key] for key in KEYS if key != KEYS[1]}
    cache.close()


def test_large_values_are_not_written(redis_server: RedisServer) -> None:
    """Above 1 MiB, or what the URL says, reading the bank is no slower."""
    sizes = {KEYS[0]: 1 << 20, KEYS[1]: (1 << 20) + 1, KEYS[2]: 4 << 10}
    values = {key: bytes(size) for key, size in sizes.items()}
    for limit, kept in (("", {KEYS[0], KEYS[2]}), ("&max_value=4KiB", {KEYS[2]})):
        redis_server.flush()
        cache = RedisCache.from_argument(redis_server.patient_url + limit)
        cache.put_many(values)
        cache.settle()
        assert cache.get_many(KEYS).keys() == kept
        assert report(cache).unwritten == {"too_large": 3 - len(kept)}
        assert report(cache).bytes["written"] == sum(sizes[key] for key in kept)
        cache.close()


def test_a_writer_that_is_behind_passes_values_over(own_redis_server: RedisServer) -> None:
    """Nobody waits for it, its memory is bounded, and what it passes over is counted."""
    cache = RedisCache.from_argument(own_redis_server.patient_url)
    own_redis_server.freeze()
    for number in range(200):
        cache.put_many({MemoryKey("b", "d", str(number)): bytes(100)})
    counted = report(cache)
    assert counted.unwritten["behind"] >= 200 - 64 - 1
    assert 0 < counted.waiting <= 64
    own_redis_server.thaw()
    cache.settle()
    assert own_redis_server.num_keys() == 200 - counted.unwritten["behind"]
    cache.close()


def test_nobody_waits_longer_than_is_agreed() -> None:
    """A reading that never ends keeps nobody, and what came before is had."""
    never = threading.Event()

    def read(keys: object) -> object:
        yield {"a": b"1"}
        never.wait()
        yield {"b": b"2"}

    reads: SharedReads[str] = SharedReads(read, "reader")  # type: ignore[arg-type]

    def left_with_a_part() -> bool:
        landed = reads.get(["a", "b"], 0.2)
        assert (landed.error, landed.late) == (None, True)
        return landed.found == {"a": b"1"}

    assert eventually(left_with_a_part)
    # Nobody joins what was left: this caller begins its own.
    assert reads.get(["b"], 0.0).own == ["b"]
    never.set()
    assert eventually(lambda: reads.get(["b"], 30).found == {"b": b"2"})
    reads.close()


def test_an_error_is_told_to_the_one_whose_reading_it_was() -> None:
    """The reader's thread survives it."""

    def read(keys: object) -> object:
        raise KeyError("tables")

    reads: SharedReads[str] = SharedReads(read, "reader")  # type: ignore[arg-type]
    for _ in range(3):
        landed = reads.get(["a"], 30)
        assert isinstance(landed.error, KeyError)
        assert (landed.found, landed.late) == ({}, False)
    reads.close()
