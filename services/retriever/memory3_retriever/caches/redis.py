"""The cache that replicas share: Redis, with every fault turned into "not there".

One key holds one whole envelope, so eviction never tears a memory. A call is bounded by short
timeouts and one retry; after a fault Redis is left alone for a while, so that a dead one costs one
retrieval some 100 ms and the next ones nothing. Writing goes on in the background: no retrieval
waits for it.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from memory3.errors import InvalidArgumentError
from memory3.rpc.logging import get_logger
from memory3_retriever.caches.base import Cache, MemoryKey
from memory3_retriever.caches.breaker import CircuitBreaker

# How long a connection or an answer may take, unless the URL says otherwise.
TIMEOUT_S = 0.05
_TTL_S = 24 * 3600
_GET_BATCH = 16
_PUT_BATCH_BYTES = 1 << 20
_DELETE_BATCH = 1000
# Batches that wait for the writer; 64 MiB of memories at most.
_MAX_QUEUED = 64
_SCHEMES = ("redis", "rediss", "unix")

_log = get_logger(__name__)


class RedisCache(Cache):
    """Keeps values in Redis for a day, or until Redis evicts them.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, with user and password if needed.
            ``?socket_timeout=0.2`` waits longer for an answer than 50 ms, for a Redis far away;
            ``socket_connect_timeout`` is the same for a connection.
        clock: Tells the time in seconds, and never runs backwards.

    Raises:
        ValueError, TypeError: The URL says what redis-py cannot use; the text may hold a password.
    """

    name: ClassVar[str] = "redis"

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._place = _without_credentials(url)
        pool = redis.ConnectionPool.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            **({} if url.startswith("unix:") else {"socket_connect_timeout": TIMEOUT_S}),
            retry=Retry(NoBackoff(), 1),
            max_connections=128,
        )
        self._redis = redis.Redis(connection_pool=pool)
        self._clock = clock
        # Refuses here, before it connects, what a URL says that redis-py does not know.
        pool.connection_class(**pool.connection_kwargs)
        # No more is asked of a Redis that has taken so long for one retrieval.
        self._budget_s = float(pool.connection_kwargs["socket_timeout"])
        if not 0 < self._budget_s < math.inf:
            raise ValueError("socket_timeout")
        # A full or read-only Redis still answers reads, so each has a breaker of its own.
        self._reading = CircuitBreaker(clock=clock)
        self._writing = CircuitBreaker(clock=clock)
        self._queue: queue.Queue[Callable[[], Any] | None] = queue.Queue(_MAX_QUEUED)
        self._writer = threading.Thread(target=self._work, name="redis-writer", daemon=True)
        self._writer.start()

    @classmethod
    def from_argument(cls, argument: str | None) -> Self:
        """A cache at a URL.

        A bare ``redis://HOST:PORT/0``, which is the name and ``//HOST:PORT/0``, means itself.

        Raises:
            InvalidArgumentError: The argument is not the URL of a Redis; the message does not
                repeat it, for it may hold a password.
        """
        url = f"{cls.name}:{argument}" if (argument or "").startswith("//") else argument or ""
        try:
            parts = urlsplit(url)
            valid = parts.scheme in _SCHEMES and bool(
                parts.path if parts.scheme == "unix" else parts.hostname and (parts.port or 6379)
            )
            if valid:
                return cls(url)
        except (ValueError, TypeError):
            pass
        raise InvalidArgumentError(
            "the redis cache needs the URL of a Redis",
            field="cache",
            remedy='use "redis://HOST:PORT/0", "redis:rediss://HOST:PORT/0" for TLS, or '
            '"redis:unix://PATH"; "?socket_timeout=0.2" after it waits longer than 50 ms',
        )

    def get_many(self, keys: Sequence[MemoryKey]) -> dict[MemoryKey, bytes]:
        """The values that Redis has and tells in time."""
        found: dict[MemoryKey, bytes] = {}
        until = self._clock() + self._budget_s
        for start in range(0, len(keys), _GET_BATCH):
            if self._clock() > until or not self._reading.allows():
                break
            block = keys[start : start + _GET_BATCH]
            try:
                values = self._redis.mget([str(key) for key in block])
            except (redis.RedisError, OSError, ValueError) as error:
                self._fault(self._reading, "reading", error)
                break
            self._reading.succeeded()
            # A proxy or another program may answer with anything.
            pairs = zip(block, values, strict=False)
            found.update((key, value) for key, value in pairs if isinstance(value, bytes))
        return found

    def put_many(self, values: Mapping[MemoryKey, bytes]) -> None:
        """Hand values to the writer; where it is behind they are passed over."""
        for block in _by_size(values):
            self._submit(partial(self._write, block))

    def delete_many(self, keys: Iterable[MemoryKey]) -> None:
        """Hand keys to the writer, after the values that it was handed before."""
        doomed = [str(key) for key in keys]
        for start in range(0, len(doomed), _DELETE_BATCH):
            block = doomed[start : start + _DELETE_BATCH]
            self._submit(partial(self._redis.unlink, *block))

    def settle(self) -> None:
        """Wait until the writer has done what it was handed."""
        self._queue.join()

    def describe(self) -> str:
        """Name and place, without user or password."""
        return f"redis:{self._place}"

    def fault(self) -> str | None:
        """What an attempt to reach Redis ends with; None if it answers."""
        try:
            self._redis.ping()
        except (redis.RedisError, OSError, ValueError) as error:
            # The class alone: messages of redis-py may repeat the URL.
            return f"redis does not answer: {type(error).__name__}"
        return None

    def close(self) -> None:
        """End the writer and close the connections."""
        self._queue.put(None)
        self._writer.join()
        self._redis.close()
        self._redis.connection_pool.disconnect()

    def _submit(self, operation: Callable[[], Any]) -> None:
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(operation)

    def _work(self) -> None:
        while (operation := self._queue.get()) is not None:
            try:
                # Where reading has just failed, writing would only wait for its own timeouts.
                if not self._reading.is_open and self._writing.allows():
                    operation()
                    self._writing.succeeded()
            except (redis.RedisError, OSError, ValueError) as error:
                self._fault(self._writing, "writing", error)
            finally:
                self._queue.task_done()

    def _write(self, block: Sequence[tuple[MemoryKey, bytes]]) -> None:
        with self._redis.pipeline(transaction=False) as pipeline:
            for key, value in block:
                pipeline.set(str(key), value, ex=_TTL_S)
            pipeline.execute()

    def _fault(self, breaker: CircuitBreaker, doing: str, error: Exception) -> None:
        breaker.failed()
        # The class alone: messages of redis-py may repeat the URL.
        _log.warning("redis is left alone", doing=doing, error=type(error).__name__)


def _by_size(values: Mapping[MemoryKey, bytes]) -> Iterator[list[tuple[MemoryKey, bytes]]]:
    block: list[tuple[MemoryKey, bytes]] = []
    size = 0
    for key, value in values.items():
        if block and size + len(value) > _PUT_BATCH_BYTES:
            yield block
            block, size = [], 0
        block.append((key, value))
        size += len(value)
    if block:
        yield block


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"
