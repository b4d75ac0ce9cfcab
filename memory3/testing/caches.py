"""The contract of the cache family: subclass ``CacheContract`` and say how yours is made.

A plugin passes the family's tests by::

    from memory3.testing.caches import CacheContract

    class TestMyCache(CacheContract):
        def make(self):
            return MyCache.from_argument("an argument")

        bad_arguments = ("not one",)

All tests call only what the family's base promises. It must not know any one cache.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import pytest

from memory3.errors import InvalidArgumentError


class Key(NamedTuple):
    """A key as the retriever makes it: bank, checkpoint, reference."""

    bank_uid: str
    checkpoint_digest: str
    reference_id: str

    def __str__(self) -> str:
        return f"memory3:{{{self.bank_uid}}}:{self.checkpoint_digest}:{self.reference_id}"


# A subclass of the family's base, which belongs to the retriever and is not imported here.
CacheLike = Any


def key_of(number: int, *, bank: str = "a" * 32, digest: str = "d" * 64) -> Key:
    """A key by its number."""
    return Key(bank, digest, f"{number:032x}")


class CacheContract(ABC):
    """What every cache must do; pytest collects a subclass whose name starts with ``Test``."""

    # Arguments that the cache cannot take; ``kind`` is asked to refuse them.
    bad_arguments: ClassVar[tuple[str | None, ...]] = ()

    @abstractmethod
    def make(self) -> CacheLike:
        """A cache with nothing in it and room for 8 MiB."""

    def settle(self, cache: CacheLike) -> None:  # noqa: B027 - most caches write at once
        """Wait until what was put can be got; for a cache that writes in the background."""

    @pytest.fixture
    def cache(self) -> Iterator[CacheLike]:
        """An empty cache."""
        cache = self.make()
        yield cache
        cache.close()

    def test_an_empty_cache_has_nothing(self, cache: CacheLike) -> None:
        """A missing key is left out of the answer."""
        assert cache.get_many([key_of(1), key_of(2)]) == {}

    def test_what_is_put_is_got(self, cache: CacheLike) -> None:
        """Values come back byte for byte, empty of nothing and full of anything."""
        values = {key_of(1): os.urandom(3000), key_of(2): b"\x00\xff\r\n$-1\r\n", key_of(3): b"x"}
        cache.put_many(values)
        self.settle(cache)
        assert cache.get_many([*values, key_of(4)]) == values

    def test_a_later_value_replaces_an_earlier_one(self, cache: CacheLike) -> None:
        """The last value put under a key is the one that is got."""
        cache.put_many({key_of(1): b"first"})
        cache.put_many({key_of(1): b"second"})
        self.settle(cache)
        assert cache.get_many([key_of(1)]) == {key_of(1): b"second"}

    def test_bank_checkpoint_and_reference_are_all_bound(self, cache: CacheLike) -> None:
        """A key that differs in one part only is another key."""
        own = key_of(1)
        cache.put_many({own: b"value"})
        self.settle(cache)
        others = [key_of(1, bank="b" * 32), key_of(1, digest="e" * 64), key_of(2)]
        assert cache.get_many(others) == {}
        assert cache.get_many([own]) == {own: b"value"}

    def test_what_is_deleted_is_gone(self, cache: CacheLike) -> None:
        """Deleting forgets; deleting what is not there is no error."""
        cache.put_many({key_of(1): b"one", key_of(2): b"two"})
        cache.delete_many([key_of(1), key_of(3)])
        self.settle(cache)
        assert cache.get_many([key_of(1), key_of(2)]) == {key_of(2): b"two"}

    def test_nothing_is_a_valid_request(self, cache: CacheLike) -> None:
        """Empty requests do nothing and raise nothing."""
        cache.put_many({})
        cache.delete_many([])
        assert cache.get_many([]) == {}

    def test_many_large_values(self, cache: CacheLike) -> None:
        """As many memories as one retrieval may ask for come back whole."""
        values = {key_of(number): os.urandom(40_000) for number in range(100)}
        cache.put_many(values)
        self.settle(cache)
        found = cache.get_many(list(values))
        assert len(found) == 100
        assert found == values

    def test_a_value_larger_than_the_cache_is_no_error(self, cache: CacheLike) -> None:
        """It may be passed over, but is never torn."""
        large = bytes(20 << 20)
        cache.put_many({key_of(1): large})
        self.settle(cache)
        assert cache.get_many([key_of(1)]) in ({}, {key_of(1): large})

    def test_many_threads_share_it(self, cache: CacheLike) -> None:
        """No thread ever gets a value that was put under another key."""
        failures: list[BaseException] = []

        def work(worker: int) -> None:
            try:
                for number in range(50):
                    key = key_of(number % 7)
                    cache.put_many({key: str(number % 7).encode() * 500})
                    for found, value in cache.get_many([key, key_of(worker)]).items():
                        expected = str(int(found.reference_id, 16)).encode() * 500
                        assert value == expected
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []

    def test_a_caller_without_time_gets_what_is_at_hand(self, cache: CacheLike) -> None:
        """Nothing, or the value; and afterwards the value for one who has time."""
        assert cache.budget_s > 0
        cache.put_many({key_of(1): b"value"})
        self.settle(cache)
        assert cache.get_many([key_of(1)], 0.0) in ({}, {key_of(1): b"value"})
        assert cache.get_many([key_of(1)], cache.budget_s) == {key_of(1): b"value"}

    def test_it_is_made_of_layers_that_count(self, cache: CacheLike) -> None:
        """Each layer is a cache; hits and misses are counted where they are counted at all."""
        cache.put_many({key_of(1): b"value"})
        self.settle(cache)
        cache.get_many([key_of(1), key_of(2)])
        assert len(cache.layers) >= 1
        counted = [report.requests for report in cache.report()]
        assert sum(requests.get("hit", 0) for requests in counted) == (1 if counted else 0)

    def test_it_says_what_it_is(self, cache: CacheLike) -> None:
        """The description is a short line that begins with the cache's name."""
        described = cache.describe()
        name: str = getattr(type(cache), "name", "")
        assert name
        assert described.startswith(name)
        assert "\n" not in described

    def test_bad_arguments_are_refused(self) -> None:
        """A cache that cannot be made says so at once, naming the setting."""
        cache = self.make()
        cache.close()
        kind: Any = type(cache)
        for argument in self.bad_arguments:
            with pytest.raises(InvalidArgumentError) as raised:
                kind.from_argument(argument)
            assert raised.value.field == "cache"
            assert raised.value.remedy
