"""Writing to Redis in the background: no retrieval waits for it, and none fails with it."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from memory3_retriever.caches.base import MemoryKey
from memory3_retriever.caches.breaker import CircuitBreaker
from memory3_retriever.caches.counts import Counts
from memory3_retriever.caches.redis_clients import RedisClients

TTL_S = 24 * 3600
_BATCH_BYTES = 1 << 20
_DELETE_BATCH = 10_000
# Batches that wait for the writer; 64 MiB of memories at most, unless single ones are larger.
_MAX_QUEUED = 64
_JOIN_S = 5.0


class RedisWriter:
    """Writes and deletes, in the order in which it is told.

    Args:
        clients: Where to.
        breaker: Of writing.
        may_try: Whether Redis may be tried at all.
        on_fault: Told of each fault; tells the breaker.
        counts: Counts.
        max_value_bytes: Larger values are passed over.
    """

    def __init__(
        self,
        clients: RedisClients,
        breaker: CircuitBreaker,
        may_try: Callable[[], bool],
        on_fault: Callable[[Exception], None],
        counts: Counts,
        max_value_bytes: int,
    ) -> None:
        self._clients = clients
        self._breaker = breaker
        self._may_try = may_try
        self._on_fault = on_fault
        self._counts = counts
        self._max_value_bytes = max_value_bytes
        self._lock = threading.Lock()
        # What is to be written last of each key: many callers that missed it write it once.
        self._pending: dict[MemoryKey, bytes] = {}
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(_MAX_QUEUED)
        self._thread = threading.Thread(target=self._work, name="redis-writer", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Batches that wait."""
        return self._queue.qsize()

    def put(self, values: Mapping[MemoryKey, bytes]) -> None:
        """Hand values over; where the writer is behind they are passed over."""
        small = {key: v for key, v in values.items() if len(v) <= self._max_value_bytes}
        self._counts.add("unwritten", "too_large", len(values) - len(small))
        with self._lock:
            new = {key: v for key, v in small.items() if self._pending.get(key) != v}
            self._pending |= new
        for block in _by_size(new):
            if not self._submit(partial(self._write, block)):
                self._counts.add("unwritten", "behind", len(block))
                self._written(block)

    def delete(self, keys: Iterable[MemoryKey]) -> None:
        """Hand keys over; they go after the values that were handed over before."""
        doomed = list(keys)
        with self._lock:
            for key in doomed:
                self._pending.pop(key, None)
        for start in range(0, len(doomed), _DELETE_BATCH):
            block = [str(key) for key in doomed[start : start + _DELETE_BATCH]]
            self._submit(partial(self._delete, block))

    def settle(self) -> None:
        """Wait until everything is done that was handed over."""
        self._queue.join()

    def close(self) -> None:
        """End the thread, after what was handed over; but wait for a fault no longer than 5 s."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=_JOIN_S)
        self._thread.join(_JOIN_S)

    def _submit(self, operation: Callable[[], None]) -> bool:
        try:
            self._queue.put_nowait(operation)
        except queue.Full:
            return False
        return True

    def _work(self) -> None:
        while (operation := self._queue.get()) is not None:
            try:
                operation()
            finally:
                self._queue.task_done()

    def _write(self, block: Sequence[tuple[MemoryKey, bytes]]) -> None:
        done = self._try(partial(self._send, block))
        self._written(block)
        if done:
            self._counts.add("bytes", "written", sum(len(value) for _, value in block))
        else:
            self._counts.add("unwritten", "failed", len(block))

    def _send(self, block: Sequence[tuple[MemoryKey, bytes]]) -> None:
        with self._clients.get().pipeline(transaction=False) as pipeline:
            for key, value in block:
                pipeline.set(str(key), value, ex=TTL_S)
            pipeline.execute()

    def _delete(self, block: Sequence[str]) -> None:
        def send() -> None:
            with self._clients.get().pipeline(transaction=False) as pipeline:
                for key in block:
                    pipeline.unlink(key)
                pipeline.execute()

        self._try(send)

    def _try(self, send: Callable[[], None]) -> bool:
        """Whether it was done."""
        if not self._may_try() or not self._breaker.allows():
            return False
        try:
            send()
        # Not only redis-py's own errors: while nodes come and go its tables are not whole.
        except Exception as error:
            self._on_fault(error)
            return False
        self._breaker.succeeded()
        return True

    def _written(self, block: Sequence[tuple[MemoryKey, bytes]]) -> None:
        with self._lock:
            for key, value in block:
                # Not a later value of the same key, which waits for its own turn.
                if self._pending.get(key) is value:
                    del self._pending[key]


def _by_size(values: Mapping[MemoryKey, bytes]) -> Iterator[list[tuple[MemoryKey, bytes]]]:
    block: list[tuple[MemoryKey, bytes]] = []
    size = 0
    for key, value in values.items():
        if block and size + len(value) > _BATCH_BYTES:
            yield block
            block, size = [], 0
        block.append((key, value))
        size += len(value)
    if block:
        yield block
