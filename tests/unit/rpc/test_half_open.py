"""Calls whose message never comes, is missing or is none, to guarded methods and to health."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memory3.errors import InvalidArgumentError, QueueFullError
from memory3.rpc.channel import connect
from memory3.rpc.status import typed_errors
from tests.unit.rpc.act import SERVICE
from tests.unit.rpc.conftest import AioSide, ThreadSide
from tests.waiting import eventually

Start = Callable[..., ThreadSide]
CHECK, ACT = "/grpc.health.v1.Health/Check", f"/{SERVICE}/Act"
NOISE = b"\x0a\xff\xff\xff\xff"


def _raw(channel: Any, kind: str, path: str) -> Any:
    return getattr(channel, kind)(path, lambda data: data, lambda data: data)


@contextmanager
def _half_open(channel: grpc.Channel, path: str, count: int) -> Iterator[list[Any]]:
    """So many calls of a method of one message that is not sent."""
    gate = threading.Event()

    def nothing() -> Iterator[bytes]:
        gate.wait()
        yield from ()

    calls = [_raw(channel, "stream_unary", path).future(nothing()) for _ in range(count)]
    try:
        yield calls
    finally:
        for call in calls:
            call.cancel()
        gate.set()


def test_calls_without_a_message_hold_no_more_than_their_places(thread_side: Start) -> None:
    """Those above the limit are refused at once, health answers, and all ends with the callers."""
    side = thread_side(max_concurrent=2)
    with _half_open(side.channel, ACT, 40) as calls:
        assert eventually(lambda: sum(call.done() for call in calls) == 38)
        codes = {call.exception().code() for call in calls if call.done()}
        assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        stub = health_pb2_grpc.HealthStub(side.channel)
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status
        with pytest.raises(QueueFullError), typed_errors():
            side.stub.act("say:x", timeout=5)
    running = {"method": ACT}
    registry = side.registry
    assert eventually(lambda: registry.get_sample_value("memory3_rpc_running", running) == 0)
    assert side.stub.act("say:x", timeout=5) == "x"
    cancelled = {"method": ACT, "code": "CANCELLED"}
    assert registry.get_sample_value("memory3_rpc_requests_total", cancelled) == 2


def test_checks_without_a_message_hold_up_no_work(thread_side: Start) -> None:
    """Health has threads of its own, and those who only hold them give way to those who ask."""
    port = _free_port()
    side = thread_side(max_concurrent=2, health_port=port)
    for address in (side.server.address, f"127.0.0.1:{port}"):
        with connect(address, retries=False) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            with _half_open(channel, CHECK, 120) as calls:
                assert eventually(lambda calls=calls: sum(call.done() for call in calls) >= 72)
                assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status
                watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
                assert next(watch).status
                watch.cancel()
                assert side.stub.act("say:x", timeout=5) == "x"


def test_watches_that_come_and_go_stop_nothing(thread_side: Start) -> None:
    """Many begin while others end, and the server goes on answering checks and calls."""
    side = thread_side()
    stub = health_pb2_grpc.HealthStub(side.channel)

    def watch() -> None:
        for _ in range(300):
            call = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
            assert next(call).status == health_pb2.HealthCheckResponse.SERVING
            call.cancel()

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(watch) for _ in range(6)]:
            done.result()
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status
    assert side.stub.act("say:x", timeout=5) == "x"


def test_a_call_without_any_message_is_refused(thread_side: Start) -> None:
    """A caller that closes its side without a word is told what is missing."""
    side = thread_side()
    with pytest.raises(InvalidArgumentError) as caught, typed_errors():
        _raw(side.channel, "stream_unary", ACT)(iter(()), timeout=5)
    assert caught.value.field == "request"


def test_a_message_above_the_limit_is_refused(thread_side: Start) -> None:
    """GRPC says so itself, and the service goes on."""
    side = thread_side(max_message_bytes=1000)
    with pytest.raises(grpc.RpcError) as caught:
        side.stub.act("say:" + "x" * 2000, timeout=5)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert side.stub.act("say:x", timeout=5) == "x"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _refuse_noise(address: str) -> None:
    with connect(address, retries=False) as channel:
        for kind, method in (("unary_unary", "Check"), ("unary_stream", "Watch")):
            path = CHECK.replace("Check", method)
            with pytest.raises(InvalidArgumentError) as caught, typed_errors():
                answered = _raw(channel, kind, path)(NOISE, timeout=5)
                list(answered)
            assert caught.value.field == "request"
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status


def test_noise_at_health_is_invalid(thread_side: Start) -> None:
    """Bytes that are no message are INVALID_ARGUMENT there too, on the port for probes as well."""
    port = _free_port()
    side = thread_side(health_port=port)
    for address in (side.server.address, f"127.0.0.1:{port}"):
        _refuse_noise(address)


async def test_noise_at_health_of_an_event_loop_is_invalid(
    aio_side: Callable[..., Any],
) -> None:
    """The same for an aio server."""
    port = _free_port()
    side: AioSide = await aio_side(health_port=port)
    for address in (side.server.address, f"127.0.0.1:{port}"):
        async with connect(address, aio=True, retries=False) as channel:
            for kind, method in (("unary_unary", "Check"), ("unary_stream", "Watch")):
                call = _raw(channel, kind, CHECK.replace("Check", method))(NOISE, timeout=5)
                with pytest.raises(InvalidArgumentError) as caught, typed_errors():
                    _ = [each async for each in call] if method == "Watch" else await call
                assert caught.value.field == "request"
