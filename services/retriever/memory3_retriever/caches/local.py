"""The cache in the process: the memories that are read often, up to so many bytes."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Self

from memory3.errors import InvalidArgumentError
from memory3_retriever.caches.base import Cache, MemoryKey
from memory3_retriever.caches.counts import CacheReport
from memory3_retriever.caches.s3fifo import S3Fifo

DEFAULT_BYTES = 256 << 20

# What a key and the bookkeeping for it take beside the value.
_OVERHEAD_BYTES = 400
_SIZE = re.compile(r"(\d{1,6})(KiB|MiB|GiB)")
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class LocalCache(Cache):
    """Keeps the values that are read often; those read once do not push them out.

    Args:
        max_bytes: The most that keys and values take together.
    """

    name: ClassVar[str] = "local"
    in_process: ClassVar[bool] = True

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self._lock = threading.Lock()
        self._max_bytes = max_bytes
        self._num_hits = self._num_misses = 0
        self._values: S3Fifo[MemoryKey] = S3Fifo(max_bytes, overhead=_OVERHEAD_BYTES)

    @classmethod
    def from_argument(cls, argument: str | None) -> Self:
        """A cache of a size such as ``512MiB``; 256 MiB where none is given.

        Raises:
            InvalidArgumentError: The argument is not a size.
        """
        if argument is None:
            return cls()
        match = _SIZE.fullmatch(argument)
        if match is None or int(match.group(1)) == 0:
            raise InvalidArgumentError(
                f"the local cache cannot take {argument[:100]!r}",
                field="cache",
                remedy='use "local", or "local:" and a size such as 64MiB or 2GiB',
            )
        return cls(int(match.group(1)) * _UNITS[match.group(2)])

    @property
    def num_bytes(self) -> int:
        """What is kept now, in bytes."""
        with self._lock:
            return self._values.num_bytes

    def get_many(
        self, keys: Sequence[MemoryKey], within_s: float = math.inf
    ) -> dict[MemoryKey, bytes]:
        """The values at hand."""
        with self._lock:
            looked_up = {key: self._values.get(key) for key in keys}
            found = {key: value for key, value in looked_up.items() if value is not None}
            self._num_hits += len(found)
            self._num_misses += len(looked_up) - len(found)
        return found

    def put_many(self, values: Mapping[MemoryKey, bytes]) -> None:
        """Keep values; one larger than the whole cache is passed over."""
        with self._lock:
            for key, value in values.items():
                self._values.put(key, value)

    def delete_many(self, keys: Iterable[MemoryKey]) -> None:
        """Forget values."""
        with self._lock:
            for key in keys:
                self._values.remove(key)

    def describe(self) -> str:
        """Name and size."""
        return f"local:{self._max_bytes >> 10}KiB"

    def report(self) -> Sequence[CacheReport]:
        """What was counted."""
        with self._lock:
            requests = {"hit": self._num_hits, "miss": self._num_misses}
            return [CacheReport(self.name, requests, held_bytes=self._values.num_bytes)]
