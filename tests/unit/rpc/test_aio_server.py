"""What callers of an aio server see: the same as of a thread-pool server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from memory3.errors import (
    ERRORS_BY_REASON,
    BackendUnavailableError,
    FailedPreconditionError,
    LoadingError,
    Memory3Error,
    QueueFullError,
    UnsupportedError,
)
from memory3.rpc.context import REQUEST_ID_KEY
from memory3.rpc.status import aio_typed_stream, typed_errors
from tests.unit.rpc.act import SECRET, SERVICE, details_for
from tests.unit.rpc.conftest import AioSide

Start = Callable[..., Awaitable[AioSide]]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def _health(side: AioSide) -> dict[str, int]:
    stub = health_pb2_grpc.HealthStub(side.channel)
    statuses = {}
    for name in ("", SERVICE, "readiness", "liveness"):
        request = health_pb2.HealthCheckRequest(service=name)
        statuses[name] = (await stub.Check(request, timeout=2)).status
    listed = await cast(Any, stub).List(cast(Any, health_pb2).HealthListRequest(), timeout=2)
    assert {name: each.status for name, each in listed.statuses.items()} == statuses
    return statuses


async def _fail(call: Awaitable[Any]) -> Memory3Error:
    with pytest.raises(Memory3Error) as caught, typed_errors():
        await call
    return caught.value


@pytest.mark.parametrize("reason", sorted(ERRORS_BY_REASON))
async def test_typed_errors_cross_the_wire(aio_side: Start, reason: str) -> None:
    """What a servicer raises is what the client catches, part by part, for every error."""
    side = await aio_side()
    error = await _fail(side.stub.act(f"raise:{reason}", timeout=5))
    details = details_for(reason)
    assert type(error) is ERRORS_BY_REASON[reason]
    assert (error.message, error.field, error.remedy, error.retry_after_s) == (
        details["message"], details["field"], details["remedy"], details["retry_after_s"],
    )  # fmt: skip
    assert details["metadata"].items() <= error.metadata.items()


async def test_errors_of_streams_are_typed(aio_side: Start) -> None:
    """An error after the first response, and one among streamed requests, keep their type."""
    side = await aio_side()
    stream = aio_typed_stream(side.stub.act_many("raise:CORRUPT_DATA", timeout=5))
    assert await anext(stream) == "before"
    with pytest.raises(ERRORS_BY_REASON["CORRUPT_DATA"]):
        await anext(stream)
    failed = await _fail(side.stub.act_on(iter(["say:a", "raise:NOT_FOUND"]), timeout=5))
    assert failed.reason == "NOT_FOUND"
    assert await side.stub.act_on(iter(["say:a", "say:b"]), timeout=5) == "a,b"


async def test_a_defect_is_internal_and_leaks_nothing(aio_side: Start) -> None:
    """A foreign exception is INTERNAL with the request id for the caller, and whole in the log."""
    side = await aio_side()
    with capture_logs() as logs, pytest.raises(grpc.RpcError) as caught:
        await side.stub.act("crash", metadata=((REQUEST_ID_KEY, "req-7"),), timeout=5)
    seen = f"{caught.value.details()} {caught.value.trailing_metadata()}"
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert "req-7" in caught.value.details()
    assert SECRET not in seen
    told = [line for line in logs if "exc_info" in line]
    assert [SECRET in str(line["exc_info"]) for line in told] == [True]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("missing", UnsupportedError),
        ("downstream", BackendUnavailableError),
        ("abort", FailedPreconditionError),
    ],
)
async def test_other_failures_keep_their_meaning(
    aio_side: Start, command: str, expected: type[Memory3Error]
) -> None:
    """A missing method, a failed call behind, and an abort by hand are what they say."""
    side = await aio_side()
    assert type(await _fail(side.stub.act(command, timeout=5))) is expected


async def test_the_request_id_is_kept_and_returned(aio_side: Start) -> None:
    """The caller's id is seen by the servicer and comes back, in answers and in errors."""
    side = await aio_side()
    sent = ((REQUEST_ID_KEY, "abc.1"),)
    call = side.stub.act("id", metadata=sent, timeout=5)
    assert await call == "abc.1"
    assert dict(await call.trailing_metadata())[REQUEST_ID_KEY] == "abc.1"
    error = await _fail(side.stub.act("raise:NOT_FOUND", metadata=sent, timeout=5))
    assert error.metadata["request_id"] == "abc.1"


async def test_concurrent_calls_keep_their_own_ids(aio_side: Start) -> None:
    """Calls that share an event loop do not see each other's id."""
    side = await aio_side()
    ids = [f"call-{i}" for i in range(50)]
    calls = [side.stub.act("id", metadata=((REQUEST_ID_KEY, i),), timeout=5) for i in ids]
    assert await asyncio.gather(*calls) == ids


async def test_health_follows_the_phases(aio_side: Start) -> None:
    """Loading and draining are not serving; the process is alive throughout."""
    side = await aio_side(ready=False)
    not_serving = dict.fromkeys(("", SERVICE, "readiness"), NOT_SERVING)
    assert await _health(side) == {**not_serving, "liveness": SERVING}
    assert type(await _fail(side.stub.act("say:x", timeout=5))) is LoadingError
    await side.server.health.set_ready()
    assert await _health(side) == dict.fromkeys(("", SERVICE, "readiness", "liveness"), SERVING)
    await side.server.health.set_draining()
    assert await _health(side) == {**not_serving, "liveness": SERVING}
    assert await side.stub.act("say:x", timeout=5) == "x"


async def test_a_full_service_refuses_work_but_never_health(aio_side: Start) -> None:
    """At the limit work is QUEUE_FULL with a delay, health answers, and room returns after."""
    side = await aio_side(max_concurrent=3)
    running = [side.stub.act("wait", timeout=20) for _ in range(3)]
    for _ in running:
        await asyncio.wait_for(side.servicer.waiting.acquire(), 5)
    refused = [await _fail(side.stub.act("say:x", timeout=5)) for _ in range(20)]
    assert {type(error) for error in refused} == {QueueFullError}
    assert {error.retry_after_s for error in refused} == {0.25}
    assert set((await _health(side)).values()) == {SERVING}
    side.servicer.gate.set()
    assert await asyncio.gather(*running) == ["", "", ""]
    assert await side.stub.act("say:x", timeout=5) == "x"


async def test_a_cancelled_stream_is_closed_and_counted_out(aio_side: Start) -> None:
    """When a caller leaves a stream, its servicer is closed and its place is free again."""
    side = await aio_side(max_concurrent=1)
    call = side.stub.act_many("wait", timeout=20)
    assert await call.read() == "before"
    await asyncio.wait_for(side.servicer.waiting.acquire(), 5)
    call.cancel()
    await asyncio.wait_for(side.servicer.closed.wait(), 5)
    await asyncio.sleep(0)
    assert await side.stub.act("say:x", timeout=5) == "x"
    labels = {"method": f"/{SERVICE}/ActMany", "code": "CANCELLED"}
    assert side.registry.get_sample_value("memory3_rpc_requests_total", labels) == 1.0
