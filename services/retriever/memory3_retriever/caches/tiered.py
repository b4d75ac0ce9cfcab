"""Two caches in a row: a near one in the process before one that replicas share.

What the near one lacks is looked for in the far one. What is found there has not been verified yet,
so it goes into the near one by way of the caller, who verifies it (``Cache.layers``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, NoReturn, Self

from memory3.errors import InvalidArgumentError
from memory3_retriever.caches.base import Cache, MemoryKey, open_cache
from memory3_retriever.caches.counts import CacheReport


class TieredCache(Cache):
    """Asks a near cache, then a far one.

    Args:
        near: Of this process.
        far: Of any kind but this.
    """

    name: ClassVar[str] = "tiered"

    def __init__(self, near: Cache, far: Cache) -> None:
        self._near = near
        self._far = far

    @classmethod
    def from_argument(cls, argument: str | None) -> Self:
        """Two names with a comma between them, such as ``local:512MiB,redis://HOST:6379/0``.

        Raises:
            InvalidArgumentError: They are not two, the first is not in the process, or one of them
                does not take its argument.
            PluginNotFoundError: There is no such cache.
        """
        near_name, _, far_name = (argument or "").partition(",")
        if not near_name or not far_name or far_name.startswith(cls.name):
            _refuse()
        near = open_cache(near_name)
        if not near.in_process:
            near.close()
            _refuse()
        return cls(near, open_cache(far_name))

    @property
    def layers(self) -> Sequence[Cache]:
        """The near one and the far one."""
        return (self._near, self._far)

    def get_many(
        self, keys: Sequence[MemoryKey], within_s: float = math.inf
    ) -> dict[MemoryKey, bytes]:
        """The values at hand in either; none is moved."""
        found = self._near.get_many(keys, within_s)
        return found | self._far.get_many([key for key in keys if key not in found], within_s)

    def put_many(self, values: Mapping[MemoryKey, bytes]) -> None:
        """Keep values in both."""
        for cache in self.layers:
            cache.put_many(values)

    def delete_many(self, keys: Iterable[MemoryKey]) -> None:
        """Forget values in both."""
        doomed = list(keys)
        for cache in self.layers:
            cache.delete_many(doomed)

    def describe(self) -> str:
        """Both, the near one first."""
        return f"{self.name}:{self._near.describe()},{self._far.describe()}"

    def fault(self) -> str | None:
        """That of either."""
        return self._near.fault() or self._far.fault()

    def report(self) -> Sequence[CacheReport]:
        """What either has counted."""
        return [*self._near.report(), *self._far.report()]

    def close(self) -> None:
        """Close both."""
        for cache in self.layers:
            cache.close()


def _refuse() -> NoReturn:
    raise InvalidArgumentError(
        "the tiered cache needs a cache of this process and another one",
        field="cache",
        remedy='use "tiered:local,redis://HOST:PORT/0", the size of the first if need be: '
        '"tiered:local:512MiB,redis:rediss://HOST:PORT/0"',
    )
