"""S3-FIFO: three queues that keep what is read often and let pass what is read once.

The algorithm of Yang et al., "FIFO queues are all you need for cache eviction" (SOSP 2023), with
bytes in place of counts. New values wait in a small queue; one that was read there again goes on
to the main queue, the others leave, and only their keys are remembered for a while: a key that
comes back in that time goes to the main queue at once. A scan thus passes through the small queue
alone. Not safe for threads: its user locks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)

# The small queue's share, and how many readings are counted, as in the paper.
_SMALL_SHARE = 10
_MAX_READS = 3


class _Entry:
    __slots__ = ("reads", "size", "value")

    def __init__(self, value: bytes, size: int) -> None:
        self.value = value
        self.size = size
        self.reads = 0


class S3Fifo(Generic[KeyT]):
    """A map of bytes with a bound.

    Args:
        max_bytes: The most that all values take together, with their overhead.
        overhead: Bytes that each entry takes beside its value.
    """

    def __init__(self, max_bytes: int, *, overhead: int = 0) -> None:
        self._max_bytes = max_bytes
        self._overhead = overhead
        self._small: OrderedDict[KeyT, _Entry] = OrderedDict()
        self._main: OrderedDict[KeyT, _Entry] = OrderedDict()
        # Sizes of values that left the small queue, so that they are bounded in bytes too.
        self._gone: OrderedDict[KeyT, int] = OrderedDict()
        self._small_bytes = self._main_bytes = self._gone_bytes = 0

    @property
    def num_bytes(self) -> int:
        """What all entries take."""
        return self._small_bytes + self._main_bytes

    def get(self, key: KeyT) -> bytes | None:
        """The value of a key, if it is here."""
        entry = self._small.get(key) or self._main.get(key)
        if entry is None:
            return None
        entry.reads = min(entry.reads + 1, _MAX_READS)
        return entry.value

    def put(self, key: KeyT, value: bytes) -> None:
        """Keep a value; one larger than everything is not kept, nor is what it replaces."""
        entry = _Entry(value, len(value) + self._overhead)
        known = self._small.get(key) or self._main.get(key)
        was_main, was_gone = key in self._main, key in self._gone
        self.remove(key)
        if entry.size > self._max_bytes:
            return
        if known is not None:
            entry.reads = known.reads
        while self.num_bytes + entry.size > self._max_bytes:
            self._make_room()
        if was_main or was_gone:
            self._to_main(key, entry)
        else:
            self._small[key] = entry
            self._small_bytes += entry.size

    def remove(self, key: KeyT) -> None:
        """Forget a key, also that it was ever here."""
        if (entry := self._small.pop(key, None)) is not None:
            self._small_bytes -= entry.size
        if (entry := self._main.pop(key, None)) is not None:
            self._main_bytes -= entry.size
        self._gone_bytes -= self._gone.pop(key, 0)

    def _make_room(self) -> None:
        # Each step drops an entry, moves one on or takes one of its readings, so this ends.
        if self._small and (not self._main or self._small_bytes * _SMALL_SHARE >= self._max_bytes):
            key, entry = self._small.popitem(last=False)
            self._small_bytes -= entry.size
            if entry.reads > 1:
                entry.reads = 0
                self._to_main(key, entry)
            else:
                self._remember(key, entry.size)
            return
        key, entry = self._main.popitem(last=False)
        self._main_bytes -= entry.size
        if entry.reads:
            entry.reads -= 1
            self._to_main(key, entry)

    def _to_main(self, key: KeyT, entry: _Entry) -> None:
        self._main[key] = entry
        self._main_bytes += entry.size

    def _remember(self, key: KeyT, size: int) -> None:
        self._gone[key] = size
        self._gone_bytes += size
        while self._gone_bytes > self._max_bytes:
            _, size = self._gone.popitem(last=False)
            self._gone_bytes -= size
