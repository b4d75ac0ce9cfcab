"""Reading for many callers at once: each key once, and nobody waits longer than is agreed.

Callers that want the same key while it is being read share that reading (single-flight). Reading
goes on in threads of its own, because no option of a socket bounds all of it: names are looked up,
TLS shakes hands, topologies are asked for, and bytes may drip. A caller that has waited long enough
leaves the reading to itself. It must not know what is read, nor from where.

Reading the bank is not shared so: one LMDB lookup costs less than the handing over that sharing
takes (some 60 µs).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)

_MAX_THREADS = 16
# They are daemons: this only lets those end that are about to.
_JOIN_S = 0.5


class _Flight(Generic[KeyT]):
    def __init__(self, keys: Sequence[KeyT]) -> None:
        self.keys = keys
        self.found: dict[KeyT, bytes] = {}
        self.done = threading.Event()
        self.error: Exception | None = None
        self.abandoned = False


class Landed(NamedTuple, Generic[KeyT]):
    """What came of a reading.

    Attributes:
        found: The values at hand when the waiting ended.
        own: The keys that nobody else was reading.
        error: What the reading of those ended with.
        late: Whether it has not ended.
    """

    found: dict[KeyT, bytes]
    own: Sequence[KeyT]
    error: Exception | None
    late: bool


class SharedReads(Generic[KeyT]):
    """Reads by key, each key by one caller at a time.

    Args:
        read: Given keys, yields values as they come in. It may raise and may take any time.
        name: Of its threads.
    """

    def __init__(
        self, read: Callable[[Sequence[KeyT]], Iterator[Mapping[KeyT, bytes]]], name: str
    ) -> None:
        self._read = read
        self._name = name
        self._lock = threading.Lock()
        self._flights: dict[KeyT, _Flight[KeyT]] = {}
        self._queue: queue.SimpleQueue[_Flight[KeyT] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._num_waiting = 0

    @property
    def num_waiting(self) -> int:
        """Callers that wait now."""
        with self._lock:
            return self._num_waiting

    def get(self, keys: Sequence[KeyT], wait_s: float) -> Landed[KeyT]:
        """The values that come within a time."""
        until = time.monotonic() + wait_s
        own: _Flight[KeyT] | None = None
        with self._lock:
            flights = {each for key in keys if (each := self._flights.get(key)) is not None}
            alone = [key for key in keys if key not in self._flights]
            if alone:
                own = _Flight(alone)
                self._flights |= dict.fromkeys(alone, own)
                self._start(own)
            self._num_waiting += 1
        for flight in [*flights, *([own] if own else [])]:
            flight.done.wait(max(0.0, until - time.monotonic()))
        with self._lock:
            self._num_waiting -= 1
        late = own is not None and not own.done.is_set()
        if own is not None and late:
            own.abandoned = True
            self._forget(own)
        # Looked up by key: another thread may be adding to what was found.
        found = {
            key: value
            for flight in [*flights, *([own] if own else [])]
            for key in keys
            if (value := flight.found.get(key)) is not None
        }
        return Landed(found, alone, own.error if own else None, late)

    def close(self) -> None:
        """End the threads; one that still reads ends by itself."""
        with self._lock:
            threads = list(self._threads)
        for _ in threads:
            self._queue.put(None)
        until = time.monotonic() + _JOIN_S
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _start(self, flight: _Flight[KeyT]) -> None:
        if not self._idle.acquire(blocking=False) and len(self._threads) < _MAX_THREADS:
            # A daemon: one that waits for a name server must not keep the process from ending.
            name = f"{self._name}-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queue.put(flight)

    def _work(self) -> None:
        while (flight := self._queue.get()) is not None:
            try:
                # One that was left before it began is not read at all.
                for found in () if flight.abandoned else self._read(flight.keys):
                    flight.found.update(found)
                    if flight.abandoned:
                        break
            except Exception as error:
                flight.error = error
            finally:
                self._forget(flight)
                flight.done.set()
            self._idle.release()

    def _forget(self, flight: _Flight[KeyT]) -> None:
        with self._lock:
            for key in flight.keys:
                if self._flights.get(key) is flight:
                    del self._flights[key]
