"""What is left for a step of a request."""

from collections.abc import Callable

import grpc
import pytest

from memory3.errors import DeadlineExceededError
from memory3.rpc.deadlines import remaining
from memory3.rpc.server import ServerOptions, build_aio_server, build_server
from tests.unit.rpc.act import SERVICE, ActServicer, ActStub, AioActServicer, adder
from tests.unit.rpc.conftest import ThreadSide

Start = Callable[..., ThreadSide]


class Left:
    """A context with so many seconds left."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def time_remaining(self) -> float | None:
        return self._seconds


@pytest.mark.parametrize(
    ("left", "budget", "expected"),
    [(5.0, 1.0, 1.0), (1.0, 5.0, 1.0), (None, 5.0, 5.0), (3.0, None, 3.0), (None, None, None)],
)
def test_the_smaller_limit_counts(
    left: float | None, budget: float | None, expected: float | None
) -> None:
    """The timeout is the smaller of deadline and budget, whichever there are."""
    assert remaining(Left(left), budget) == expected


@pytest.mark.parametrize("left", [0.0, -1.0])
def test_nothing_left_is_an_error(left: float) -> None:
    """A step is not begun when the deadline has passed."""
    with pytest.raises(DeadlineExceededError):
        remaining(Left(left), 5.0)


class Reporter(ActServicer):
    """Answers with the time that is left."""

    def Act(self, request: str, context: grpc.ServicerContext) -> str:
        return str(remaining(context, 9.0))


class AioReporter(AioActServicer):
    """Answers with the time that is left."""

    async def Act(self, request: str, context: grpc.aio.ServicerContext) -> str:
        return str(remaining(context, 9.0))


# gRPC's clocks differ by up to 10 ms, so that a little more than the timeout may seem to be left.
CLOCK_SKEW_S = 0.05


def test_a_real_call_has_its_deadline_or_the_budget() -> None:
    """On a thread-pool server the caller's timeout counts, and the budget where there is none."""
    server = build_server(ServerOptions(service=SERVICE), adder(Reporter()))
    server.start()
    try:
        server.health.set_ready()
        with grpc.insecure_channel(server.address) as channel:
            stub = ActStub(channel)
            assert 1.0 < float(stub.act("", timeout=3)) < 3.0 + CLOCK_SKEW_S
            assert stub.act("") == "9.0"
    finally:
        server.stop(0)


async def test_a_real_aio_call_has_its_deadline_or_the_budget() -> None:
    """The same on an aio server."""
    server = build_aio_server(ServerOptions(service=SERVICE), adder(AioReporter()))
    await server.start()
    try:
        await server.health.set_ready()
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = ActStub(channel)
            assert 1.0 < float(await stub.act("", timeout=3)) < 3.0 + CLOCK_SKEW_S
            assert await stub.act("") == "9.0"
    finally:
        await server.stop(0)
