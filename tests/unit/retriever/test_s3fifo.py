"""The queue of the local cache: bounded, frequency-aware, and never wrong about a value."""

from collections import OrderedDict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from memory3_retriever.caches.s3fifo import S3Fifo

SIZE, ROOM = 1000, 200


def zipf_with_scans() -> list[int]:
    """30,000 reads of 4,000 memories by Zipf's law, with a scan of 400 others every 1,000."""
    random = np.random.default_rng(4)
    weights = 1 / np.arange(1, 4001) ** 0.9
    reads = random.choice(4000, size=30_000, p=weights / weights.sum())
    trace: list[int] = []
    for start in range(0, len(reads), 1000):
        trace += reads[start : start + 1000].tolist()
        trace += range(10_000 + start, 10_400 + start)
    return trace


def hit_ratio(trace: list[int]) -> float:
    """The share of the popular memories' reads that S3-FIFO has."""
    cache: S3Fifo[int] = S3Fifo(SIZE * ROOM)
    hits = 0
    for key in trace:
        if cache.get(key) is None:
            cache.put(key, bytes(SIZE))
        else:
            hits += 1
        assert cache.num_bytes <= SIZE * ROOM
    return hits / sum(key < 4000 for key in trace)


def lru_hit_ratio(trace: list[int]) -> float:
    """The same for a cache that keeps what was used last."""
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in trace:
        hits += key in cache
        cache[key] = None
        cache.move_to_end(key)
        if len(cache) > ROOM:
            cache.popitem(last=False)
    return hits / sum(key < 4000 for key in trace)


def test_it_hits_clearly_more_often_than_lru_under_scans() -> None:
    """Popular memories stay while scans pass through."""
    trace = zipf_with_scans()
    own, lru = hit_ratio(trace), lru_hit_ratio(trace)
    print(f"S3-FIFO {own:.3f}, LRU {lru:.3f}")  # noqa: T201 - the measured figure, with -s
    assert own > lru + 0.05


def test_a_scan_does_not_push_out_what_is_read_often() -> None:
    """After a scan of ten times the room, every popular value is still there."""
    cache: S3Fifo[int] = S3Fifo(SIZE * ROOM)
    popular = range(ROOM // 2)
    for key in popular:
        cache.put(key, bytes(SIZE))
    for _ in range(3):
        assert all(cache.get(key) is not None for key in popular)
    for key in range(1000, 1000 + 10 * ROOM):
        cache.put(key, bytes(SIZE))
    assert all(cache.get(key) is not None for key in popular)


@given(
    st.lists(
        st.tuples(st.sampled_from("gpr"), st.integers(0, 9), st.binary(max_size=40)), max_size=200
    )
)
def test_it_never_tells_a_wrong_value_and_stays_in_bounds(
    steps: list[tuple[str, int, bytes]],
) -> None:
    """A value got is the last one put, whatever was done; bytes never pass the bound."""
    cache: S3Fifo[int] = S3Fifo(100, overhead=8)
    truth: dict[int, bytes] = {}
    for what, key, value in steps:
        if what == "p":
            cache.put(key, value)
            truth[key] = value
        elif what == "r":
            cache.remove(key)
            truth.pop(key, None)
        else:
            got = cache.get(key)
            assert got is None or got == truth[key]
        assert 0 <= cache.num_bytes <= 100
        held = [*cache._small.values(), *cache._main.values()]
        assert cache.num_bytes == sum(entry.size for entry in held)
