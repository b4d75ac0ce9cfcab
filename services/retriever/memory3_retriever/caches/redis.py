"""The cache that replicas share: Redis, with every fault turned into "not there".

One key holds one whole envelope, so eviction never tears a memory. Of several callers that want the
same memory at the same time one reads it. No retrieval waits for Redis longer than its budget,
whatever Redis does; after a fault it is left alone for a while, so that a dead one costs one
retrieval some 100 ms and the next ones nothing. Writing goes on in the background.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from secrets import token_hex
from typing import ClassVar, Self

import redis
from redis.exceptions import RedisClusterException
from redis.sentinel import MasterNotFoundError

from memory3.rpc.logging import get_logger
from memory3_retriever.caches.base import Cache, MemoryKey
from memory3_retriever.caches.breaker import CircuitBreaker
from memory3_retriever.caches.counts import CacheReport, Counts
from memory3_retriever.caches.flights import SharedReads
from memory3_retriever.caches.redis_address import RedisAddress
from memory3_retriever.caches.redis_clients import RedisClients
from memory3_retriever.caches.redis_writer import RedisWriter

_GET_BATCH = 16

# The first that an error is an instance of; those further up are special cases of those below.
_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (redis.AuthenticationError, "denied"),
    (redis.exceptions.AuthorizationError, "denied"),
    (redis.exceptions.NoPermissionError, "denied"),
    (redis.BusyLoadingError, "loading"),
    (redis.ReadOnlyError, "read_only"),
    (redis.exceptions.OutOfMemoryError, "out_of_memory"),
    (redis.exceptions.ClusterError, "topology"),
    (RedisClusterException, "topology"),
    (MasterNotFoundError, "topology"),
    (redis.TimeoutError, "timeout"),
    (redis.ConnectionError, "connection"),
    (OSError, "connection"),
)
_OTHER_KIND = "reply"

_log = get_logger(__name__)


class RedisCache(Cache):
    """Keeps values in Redis for a day, or until Redis evicts them.

    Args:
        address: Where Redis is.
        clock: Tells the time in seconds, and never runs backwards.
    """

    name: ClassVar[str] = "redis"

    def __init__(
        self, address: RedisAddress, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = address
        self.budget_s = address.budget_s
        self._clients = RedisClients(address)
        self._counts = Counts()
        # A full or read-only Redis still answers reads, so each has a breaker of its own.
        self._reading = CircuitBreaker(clock=clock)
        self._writing = CircuitBreaker(clock=clock)
        self._reads: SharedReads[MemoryKey] = SharedReads(self._read, "redis-reader")
        self._writer = RedisWriter(
            self._clients,
            self._writing,
            # Where reading has just failed, writing would only wait for its own timeouts.
            may_try=lambda: not self._reading.is_open,
            on_fault=lambda error: self._fault(self._writing, "writing", error),
            counts=self._counts,
            max_value_bytes=address.max_value_bytes,
        )

    @classmethod
    def from_argument(cls, argument: str | None) -> Self:
        """A cache at a URL (see ``redis_address.py``).

        Raises:
            InvalidArgumentError: The argument is not the URL of a Redis; the message does not
                repeat it, for it may hold a password.
        """
        return cls(RedisAddress.parse(argument or ""))

    def get_many(
        self, keys: Sequence[MemoryKey], within_s: float = math.inf
    ) -> dict[MemoryKey, bytes]:
        """The values that Redis has and tells in time."""
        if not keys:
            return {}
        if not self._reading.allows():
            self._counts.add("requests", "skipped", len(keys))
            return {}
        found, own, error, late = self._reads.get(keys, min(within_s, self.budget_s))
        # Neither a Redis of which a part has come, nor one that was given less than its time, is
        # to be left alone.
        if late and within_s >= self.budget_s and not any(key in found for key in own):
            error = redis.TimeoutError()
        if error is not None:
            self._fault(self._reading, "reading", error)
        elif own and not late:
            self._reading.succeeded()
        self._counts.add("requests", "hit", len(found))
        self._counts.add("requests", "failed" if error or late else "miss", len(keys) - len(found))
        self._counts.add("shared", "", len(keys) - len(own))
        self._counts.add("bytes", "read", sum(len(found[key]) for key in own if key in found))
        return found

    def put_many(self, values: Mapping[MemoryKey, bytes]) -> None:
        """Hand values to the writer; where it is behind they are passed over."""
        self._writer.put(values)

    def delete_many(self, keys: Iterable[MemoryKey]) -> None:
        """Hand keys to the writer, after the values that it was handed before."""
        self._writer.delete(keys)

    def settle(self) -> None:
        """Wait until the writer has done what it was handed."""
        self._writer.settle()

    def describe(self) -> str:
        """Name and place, without user or password."""
        return f"{self.name}:{self._address}"

    def fault(self) -> str | None:
        """What an attempt to reach Redis ends with; None if it answers and has just answered."""
        was_open = self._reading.is_open
        # A key that nobody else asks for, so that this attempt is one of its own.
        landed = self._reads.get([MemoryKey("", "", token_hex(8))], self.budget_s)
        if landed.error is not None or landed.late:
            # The class alone: messages of redis-py may repeat the URL.
            kind = type(landed.error or redis.TimeoutError()).__name__
            return f"redis does not answer: {kind}"
        self._reading.succeeded()
        return "redis has just failed and answers again" if was_open else None

    def report(self) -> Sequence[CacheReport]:
        """What was counted."""
        return [
            CacheReport(
                self.name,
                requests=self._counts.of("requests"),
                shared=self._counts.of("shared").get("", 0),
                errors=self._counts.of("errors"),
                bytes=self._counts.of("bytes"),
                unwritten=self._counts.of("unwritten"),
                waiting=self._writer.num_waiting,
                breakers={"reading": self._reading.is_open, "writing": self._writing.is_open},
            )
        ]

    def close(self) -> None:
        """End the threads and close the connections."""
        self._writer.close()
        self._reads.close()
        self._clients.close()

    def _read(self, keys: Sequence[MemoryKey]) -> Iterator[dict[MemoryKey, bytes]]:
        client = self._clients.get()
        # A cluster has the keys of one bank, and of no two for certain, on one node.
        for _, bank in groupby(keys, key=lambda key: key.bank_uid):
            of_bank = list(bank)
            for start in range(0, len(of_bank), _GET_BATCH):
                block = of_bank[start : start + _GET_BATCH]
                values = client.mget([str(key) for key in block])
                # A proxy or another program may answer with anything.
                pairs = zip(block, values, strict=False)
                yield {key: value for key, value in pairs if isinstance(value, bytes)}

    def _fault(self, breaker: CircuitBreaker, doing: str, error: Exception) -> None:
        is_news = breaker.failed()
        kind = next((kind for each, kind in _KINDS if isinstance(error, each)), _OTHER_KIND)
        self._counts.add("errors", kind)
        if is_news:
            # The class alone: messages of redis-py may repeat the URL.
            name = type(error).__name__
            _log.warning("redis is left alone", doing=doing, kind=kind, error=name)
