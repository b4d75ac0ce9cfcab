"""The batcher: turns, budgets, windows, limits, failures and closing."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from memory3_encoder.engine.batcher import Batcher, Limits

from memory3.errors import DrainingError, InternalError, InvalidArgumentError, QueueFullError
from memory3.rpc.logging import configure_logging

Result = int | Exception
WAIT_S = 20.0


class Bench:
    """A batcher of numbers whose length is their value, held up until ``go`` is set."""

    def __init__(self, limits: Limits) -> None:
        self.go = threading.Event()
        self.started = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.observed: list[tuple[int, int]] = []
        self.batcher: Batcher[int, int] = Batcher(
            "test", self._run, lambda item: abs(item), limits, self._observe
        )

    def _run(self, items: Sequence[int]) -> Sequence[int]:
        self.started.release()
        assert self.go.wait(WAIT_S)
        self.batches.append(list(items))
        for item in items:
            if item < -100:
                raise InvalidArgumentError("too low", field="item")
            if item < 0:
                raise ZeroDivisionError("a defect")
        return [item * 10 for item in items]

    def _observe(self, num_items: int, length: int, seconds: float) -> None:
        assert seconds >= 0
        self.observed.append((num_items, length))

    def hold(self) -> "Call":
        """Occupy the thread with a first batch, so that what follows waits in the queue."""
        call = Call(self, [1])
        assert self.started.acquire(timeout=WAIT_S)
        return call


class Call:
    """One caller that collects its results."""

    def __init__(self, bench: Bench, items: Sequence[int], window: int | None = None) -> None:
        self.results: queue.Queue[tuple[int, Result]] = queue.Queue()
        self.ticket = bench.batcher.submit(
            items, lambda place, result: self.results.put((place, result)), window=window
        )

    def take(self, count: int) -> list[tuple[int, Result]]:
        """The next results."""
        return [self.results.get(timeout=WAIT_S) for _ in range(count)]


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    """Makes benches that are closed in the end."""
    made: list[Bench] = []

    def make(budget: int = 8, max_waiting: int = 100, linger_s: float = 0.0) -> Bench:
        made.append(Bench(Limits(budget, max_waiting, linger_s)))
        return made[-1]

    yield make
    for item in made:
        item.go.set()
        item.batcher.close()


def test_every_item_gets_its_own_result(bench: Callable[..., Bench]) -> None:
    """Results carry the place of their item, over many batches."""
    busy = bench()
    busy.go.set()
    items = [1 + i % 5 for i in range(200)]
    call = Call(busy, items[:100])
    expected = {(place, item * 10) for place, item in enumerate(items[:100])}
    assert expected == set(call.take(100))


def test_batches_stay_within_the_budget(bench: Callable[..., Bench]) -> None:
    """Longest item times items is at most the budget, and an item above it goes alone."""
    busy = bench(budget=8)
    first = busy.hold()
    call = Call(busy, [2, 2, 3, 9, 1, 8, 4, 4, 1])
    busy.go.set()
    first.take(1)
    call.take(9)
    assert busy.batches == [[1], [2, 2], [3], [9], [1], [8], [4, 4], [1]]
    assert busy.observed == [(1, 1), (2, 4), (1, 3), (1, 9), (1, 1), (1, 8), (2, 8), (1, 1)]


def test_callers_take_turns(bench: Callable[..., Bench]) -> None:
    """One reference does not wait for the hundred of another caller."""
    busy = bench(budget=2)
    first = busy.hold()
    large = Call(busy, [1] * 50)
    small = Call(busy, [2])
    busy.go.set()
    first.take(1)
    small.take(1)
    assert [2] in busy.batches[:3]
    large.take(50)


def test_calls_share_batches(bench: Callable[..., Bench]) -> None:
    """Items of different callers are worked on together."""
    busy = bench(budget=8)
    first = busy.hold()
    calls = [Call(busy, [2]) for _ in range(4)]
    busy.go.set()
    for call in (first, *calls):
        call.take(1)
    assert busy.batches == [[1], [2, 2, 2, 2]]


def test_lingering_gathers_what_comes_soon(bench: Callable[..., Bench]) -> None:
    """A batch with room left waits for others, and no longer than until it is full."""
    patient = bench(budget=4, linger_s=WAIT_S)
    patient.go.set()
    calls = [Call(patient, [1]) for _ in range(4)]
    for call in calls:
        call.take(1)
    assert patient.batches == [[1, 1, 1, 1]]


def test_a_slow_caller_stops_at_its_window(bench: Callable[..., Bench]) -> None:
    """No more results pile up for a caller than its window, and others go on meanwhile."""
    busy = bench(budget=1)
    busy.go.set()
    slow = Call(busy, [1] * 10, window=3)
    other = Call(busy, [1] * 5)
    slow.take(3)
    other.take(5)
    assert busy.batcher.num_waiting == 7
    assert slow.results.empty()
    busy.batcher.taken(slow.ticket)
    slow.take(1)
    assert busy.batcher.num_waiting == 6


def test_refuses_what_does_not_fit_the_queue(bench: Callable[..., Bench]) -> None:
    """All of a call or none of it, with a delay after which to try again."""
    busy = bench(max_waiting=5)
    busy.hold()
    Call(busy, [1] * 4)
    with pytest.raises(QueueFullError) as caught:
        Call(busy, [1, 1])
    assert caught.value.retry_after_s is not None
    assert 0.05 <= caught.value.retry_after_s <= 30
    assert busy.batcher.num_waiting == 4
    Call(busy, [1])


def test_cancelling_frees_the_queue(bench: Callable[..., Bench]) -> None:
    """What has not started is dropped, what runs is not delivered, and others are not touched."""
    busy = bench()
    running = busy.hold()
    waiting = Call(busy, [1] * 20)
    other = Call(busy, [2, 2])
    busy.batcher.cancel(running.ticket)
    busy.batcher.cancel(waiting.ticket)
    busy.batcher.cancel(waiting.ticket)
    assert busy.batcher.num_waiting == 2
    busy.go.set()
    assert {(0, 20), (1, 20)} == set(other.take(2))
    assert running.results.empty()
    assert waiting.results.empty()
    assert busy.batches == [[1], [2, 2]]


def test_a_bad_item_fails_alone(
    bench: Callable[..., Bench], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its neighbours in the batch succeed; a defect's text does not reach the caller."""
    configure_logging("test", "error", "json")
    busy = bench(budget=2_000)
    first = busy.hold()
    call = Call(busy, [3, -101, 4, -1])
    busy.go.set()
    first.take(1)
    results = dict(call.take(4))
    assert (results[0], results[2]) == (30, 40)
    assert isinstance(results[1], InvalidArgumentError)
    assert isinstance(results[3], InternalError)
    assert "a defect" not in str(results[3])
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_closing_fails_what_waits(bench: Callable[..., Bench]) -> None:
    """The running batch is finished and delivered, the rest is told to go elsewhere."""
    busy = bench()
    running = busy.hold()
    waiting = Call(busy, [1, 1])
    closing = threading.Thread(target=busy.batcher.close)
    closing.start()
    failed = waiting.take(2)
    busy.go.set()
    closing.join(WAIT_S)
    assert not closing.is_alive()
    assert [type(result) for _, result in failed] == [DrainingError, DrainingError]
    assert running.take(1) == [(0, 10)]
    with pytest.raises(DrainingError):
        Call(busy, [1])


def test_an_empty_call_is_done_at_once(bench: Callable[..., Bench]) -> None:
    """No items take no place in the queue."""
    idle = bench()
    Call(idle, [])
    assert idle.batcher.num_waiting == 0
