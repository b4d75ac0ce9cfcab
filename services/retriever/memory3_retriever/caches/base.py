"""What a cache is: envelopes kept close, bound to bank, checkpoint and reference.

The family ``memory3.caches``. A cache may lose anything at any time and its faults never reach the
caller: they only change speed. What comes out is verified by the caller before use, unless it never
left the process, so a cache must not know what an envelope is, nor banks, nor the wire.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple, Self

from memory3 import plugins
from memory3.errors import InvalidArgumentError
from memory3_retriever.caches.counts import CacheReport

NO_CACHE = "none"


class MemoryKey(NamedTuple):
    """What one memory is kept under.

    Attributes:
        bank_uid: The random number of the bank, never reused by a later bank of the same name.
        checkpoint_digest: The checkpoint that wrote the memory.
        reference_id: 32 hexadecimal digits.
    """

    bank_uid: str
    checkpoint_digest: str
    reference_id: str

    def __str__(self) -> str:
        # The braces keep the keys of a bank on one node of a Redis cluster.
        return f"memory3:{{{self.bank_uid}}}:{self.checkpoint_digest}:{self.reference_id}"


class Cache(ABC):
    """Keeps values by key, as long as it likes. Any number of threads may use it at once."""

    name: ClassVar[str]
    # Whether what comes out is the very objects that were put in: then it needs no second check.
    in_process: ClassVar[bool] = False
    # What one retrieval may wait for it in all, in seconds.
    budget_s: float = math.inf

    @classmethod
    @abstractmethod
    def from_argument(cls, argument: str | None) -> Self:
        """A cache as a setting names it.

        Args:
            argument: What stands after the colon in the cache's name; None where there is none.

        Raises:
            InvalidArgumentError: The argument is not of the form that this cache takes.
        """

    @abstractmethod
    def get_many(
        self, keys: Sequence[MemoryKey], within_s: float = math.inf
    ) -> dict[MemoryKey, bytes]:
        """The values at hand. Raises nothing: a fault is as if there were none.

        Args:
            keys: What is wanted.
            within_s: How long the caller waits at most; the cache's own budget where that is less.
        """

    @abstractmethod
    def put_many(self, values: Mapping[MemoryKey, bytes]) -> None:
        """Keep values, if that is possible. Raises nothing."""

    @abstractmethod
    def delete_many(self, keys: Iterable[MemoryKey]) -> None:
        """Forget values, if that is possible. Raises nothing."""

    @abstractmethod
    def describe(self) -> str:
        """The cache for people: name and place, never a credential."""

    def fault(self) -> str | None:
        """Why the cache cannot be used right now, for people; None if it can. Raises nothing."""
        return None

    def report(self) -> Sequence[CacheReport]:
        """What was counted, of each cache that this one is made of; nothing if it does not count.

        Raises nothing.
        """
        return ()

    @property
    def layers(self) -> Sequence[Cache]:
        """The caches that this one is made of, the nearest first; itself if it is of one piece.

        What is found in one is put into those before it by the caller, who has verified it.
        """
        return (self,)

    def close(self) -> None:  # noqa: B027 - most caches have nothing to release
        """Release what is held."""


class NoCache(Cache):
    """Keeps nothing."""

    name: ClassVar[str] = NO_CACHE

    @classmethod
    def from_argument(cls, argument: str | None) -> Self:
        """The only one there is.

        Raises:
            InvalidArgumentError: There is an argument.
        """
        if argument is not None:
            raise InvalidArgumentError(
                '"none" takes no argument', field="cache", remedy='use "none"'
            )
        return cls()

    def get_many(
        self, keys: Sequence[MemoryKey], within_s: float = math.inf
    ) -> dict[MemoryKey, bytes]:
        """Nothing."""
        return {}

    def put_many(self, values: Mapping[MemoryKey, bytes]) -> None:
        """Pass the values over."""

    def delete_many(self, keys: Iterable[MemoryKey]) -> None:
        """Nothing is there to forget."""

    def describe(self) -> str:
        """The word "none"."""
        return self.name


def open_cache(name: str) -> Cache:
    """A cache by its plugin's name with its argument; "none" for none.

    A URL alone names the plugin that its scheme begins with: ``redis+cluster://HOST`` is
    ``redis:redis+cluster://HOST``.

    Raises:
        PluginNotFoundError: There is no such plugin.
        InvalidArgumentError: The plugin does not take that argument.
    """
    bare, argument = plugins.split_name(name)
    if (argument or "").startswith("//"):
        owners = (each for each in plugins.names("caches") if bare.startswith(each))
        bare, argument = next(owners, bare), name
    kind: type[Cache] = NoCache if bare == NO_CACHE else plugins.load("caches", bare)
    return kind.from_argument(argument)
