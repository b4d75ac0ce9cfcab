"""The cache of decoded memories: bounded, in order of confirmation, true to the bank."""

import torch
from hypothesis import given, strategies
from memory3_decoder.retrieval import MemoryCache

from memory3.memory.tensors import MemoryTensors


def memory(num_floats: int = 8) -> MemoryTensors:
    """A memory of a chosen size: its positions take nothing."""
    keys = torch.zeros(1, 1, num_floats, 1)
    return MemoryTensors(keys, keys.clone(), torch.zeros(0, dtype=torch.int16), num_floats)


SIZE = memory().num_bytes


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def cache(places: int, clock: Clock | None = None) -> MemoryCache:
    """A cache with room for so many memories of the usual size."""
    return MemoryCache(places * SIZE, max_age_s=10.0, clock=clock or Clock())


def test_the_budget_is_kept_by_dropping_the_least_recently_confirmed() -> None:
    """A confirmed entry becomes the newest; the oldest goes first."""
    held = cache(2)
    for key in ("a", "b", "a", "c"):
        held.confirm("banks/x", key, memory())
    assert list(held.newest("banks/x", 10)) == ["c", "a"]
    assert held.num_bytes == 2 * SIZE


def test_banks_are_kept_apart() -> None:
    """The same id in another bank is another memory."""
    held, mine, other = cache(4), memory(), memory()
    held.confirm("banks/x", "a", mine)
    held.confirm("banks/y", "a", other)
    assert held.newest("banks/x", 10)["a"] is mine
    assert held.newest("banks/y", 10)["a"] is other
    assert held.newest("banks/z", 10) == {}


def test_a_revision_that_went_back_drops_the_bank() -> None:
    """A bank made anew under an old name starts with nothing held; others are untouched."""
    held = cache(4)
    for bank in ("banks/x", "banks/y"):
        held.see_revision(bank, 5)
        held.confirm(bank, "a", memory())
    held.see_revision("banks/x", 6)
    assert len(held) == 2
    held.see_revision("banks/x", 1)
    assert held.newest("banks/x", 10) == {}
    assert len(held.newest("banks/y", 10)) == 1
    assert held.num_bytes == SIZE


def test_what_no_answer_names_any_more_is_dropped() -> None:
    """An entry lives for max_age_s after it was last confirmed."""
    clock = Clock()
    held = cache(4, clock)
    held.confirm("banks/x", "a", memory())
    clock.now = 6.0
    held.confirm("banks/x", "b", memory())
    clock.now = 11.0
    assert list(held.newest("banks/x", 10)) == ["b"]
    assert (len(held), held.num_bytes) == (1, SIZE)


def test_a_memory_above_the_budget_is_not_kept() -> None:
    """It does not push out the others either; a budget of zero keeps nothing."""
    held = cache(1)
    held.confirm("banks/x", "a", memory())
    held.confirm("banks/x", "b", memory(64))
    assert list(held.newest("banks/x", 10)) == ["a"]
    none = cache(0)
    none.confirm("banks/x", "a", memory())
    assert (len(none), none.num_bytes) == (0, 0)


def test_newest_is_limited() -> None:
    """At most so many ids are named, the last confirmed first."""
    held = cache(9)
    for key in "abcdef":
        held.confirm("banks/x", key, memory())
    assert list(held.newest("banks/x", 2)) == ["f", "e"]


def test_what_is_read_elsewhere_stays_named() -> None:
    """A memory beyond the budget is named as long as it lives, after those kept, without bytes."""
    held, mine = cache(1), memory()
    held.confirm("banks/x", "a", mine)
    held.confirm("banks/x", "b", memory())
    assert list(held.newest("banks/x", 10)) == ["b", "a"]
    assert held.newest("banks/x", 10)["a"] is mine
    assert held.newest("banks/y", 10) == {}
    assert (len(held), held.num_bytes) == (1, SIZE)
    del mine
    assert list(held.newest("banks/x", 10)) == ["b"]


def test_what_is_read_elsewhere_goes_with_its_bank() -> None:
    """A bank made anew names nothing of the old one, and a budget of zero names nothing."""
    held, mine = cache(1), memory()
    held.see_revision("banks/x", 5)
    for key, each in (("a", mine), ("b", memory())):
        held.confirm("banks/x", key, each)
    held.see_revision("banks/x", 1)
    assert held.newest("banks/x", 10) == {}
    none = cache(0)
    none.confirm("banks/x", "a", mine)
    assert none.newest("banks/x", 10) == {}


@given(
    strategies.lists(
        strategies.tuples(
            strategies.sampled_from(["banks/x", "banks/y"]),
            strategies.sampled_from("abcdef"),
            strategies.integers(1, 20),
        )
    )
)
def test_bytes_are_always_those_of_the_entries(steps: list[tuple[str, str, int]]) -> None:
    """After any confirmations the count is the sum, and within the budget."""
    held = cache(3)
    for bank, key, size in steps:
        held.confirm(bank, key, memory(size))
        kept = [*held.newest("banks/x", 99).values(), *held.newest("banks/y", 99).values()]
        assert held.num_bytes == sum(entry.num_bytes for entry in kept) <= 3 * SIZE
        del kept  # what somebody holds stays named
