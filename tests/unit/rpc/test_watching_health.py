"""Those who watch a thread-pool server's health: told of every change, in the way of nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memory3.rpc.channel import connect
from tests.unit.rpc.conftest import ThreadSide
from tests.waiting import eventually

Start = Callable[..., ThreadSide]

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def _stub(channel: grpc.Channel) -> Any:
    return health_pb2_grpc.HealthStub(channel)


def test_a_watcher_is_told_now_and_of_every_change(thread_side: Start) -> None:
    """First what is, then what comes; the same is not told twice."""
    side = thread_side(ready=False)
    told: list[int] = []
    watch = _stub(side.channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)

    def read() -> None:
        try:
            told.extend(answer.status for answer in watch)
        except grpc.RpcError:
            return

    thread = threading.Thread(target=read)
    thread.start()
    expected = [NOT_SERVING]
    for change, status in (
        (side.server.health.set_ready, SERVING),
        (side.server.health.set_ready, SERVING),
        (side.server.health.set_draining, NOT_SERVING),
    ):
        assert eventually(lambda: told == expected), told
        change()
        if status != expected[-1]:
            expected.append(status)
    assert eventually(lambda: told == expected), told
    watch.cancel()
    thread.join()


def test_a_name_that_is_not_served_is_unknown(thread_side: Start) -> None:
    """Watching says so and goes on; asking once is NOT_FOUND."""
    side = thread_side()
    request = health_pb2.HealthCheckRequest(service="nobody")
    watch = _stub(side.channel).Watch(request, timeout=60)
    assert next(watch).status == UNKNOWN
    watch.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        _stub(side.channel).Check(request, timeout=60)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_watchers_that_come_and_go_stop_nobody(thread_side: Start) -> None:
    """Connections that close while others begin to watch: the server goes on answering.

    With the servicer of grpcio-health-checking it answers nobody any more, within a second.
    """
    side = thread_side()
    ended = threading.Event()
    failures: list[str] = []

    def come_and_go() -> None:
        while not ended.is_set():
            with connect(side.server.address, retries=False) as channel:
                watches = [
                    _stub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=10)
                    for _ in range(8)
                ]
                try:
                    next(watches[0])
                except grpc.RpcError as error:
                    failures.append(error.code().name)
                    return

    threads = [threading.Thread(target=come_and_go) for _ in range(6)]
    for thread in threads:
        thread.start()
    for number in range(100):
        (side.server.health.set_draining if number % 2 else side.server.health.set_ready)()
        answer = _stub(side.channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == (NOT_SERVING if number % 2 else SERVING)
    ended.set()
    for thread in threads:
        thread.join()
    assert failures == []
