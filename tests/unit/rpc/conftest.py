"""Real servers of both kinds on real loopback sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from memory3.rpc.channel import connect
from memory3.rpc.server import (
    AioRpcServer,
    RpcServer,
    ServerOptions,
    build_aio_server,
    build_server,
)
from tests.unit.rpc.act import SERVICE, ActServicer, ActStub, AioActServicer, adder


class ThreadSide:
    """A thread-pool server, its servicer, and a client of it."""

    def __init__(self, **options: Any) -> None:
        self.registry = CollectorRegistry()
        self.servicer = ActServicer()
        self.server: RpcServer = build_server(
            ServerOptions(service=SERVICE, registry=self.registry, **options),
            adder(self.servicer),
        )
        self.channel: grpc.Channel = connect(self.server.address, retries=False)
        self.stub = ActStub(self.channel)


class AioSide:
    """An aio server, its servicer, and a client of it."""

    def __init__(self, **options: Any) -> None:
        self.registry = CollectorRegistry()
        self.servicer = AioActServicer()
        self.server: AioRpcServer = build_aio_server(
            ServerOptions(service=SERVICE, registry=self.registry, **options),
            adder(self.servicer),
        )
        self.channel: grpc.aio.Channel = connect(self.server.address, aio=True, retries=False)
        self.stub = ActStub(self.channel)


@pytest.fixture
def thread_side() -> Iterator[Callable[..., ThreadSide]]:
    """Starts thread-pool servers, ready unless told otherwise, and stops them."""
    sides: list[ThreadSide] = []

    def start(*, ready: bool = True, **options: Any) -> ThreadSide:
        side = ThreadSide(**options)
        sides.append(side)
        side.server.start()
        if ready:
            side.server.health.set_ready()
        return side

    yield start
    for side in sides:
        side.servicer.gate.set()
        side.channel.close()
        side.server.stop(0)


@pytest.fixture
async def aio_side() -> AsyncIterator[Callable[..., Any]]:
    """Starts aio servers, ready unless told otherwise, and stops them."""
    sides: list[AioSide] = []

    async def start(*, ready: bool = True, **options: Any) -> AioSide:
        side = AioSide(**options)
        sides.append(side)
        await side.server.start()
        if ready:
            await side.server.health.set_ready()
        return side

    yield start
    for side in sides:
        side.servicer.gate.set()
        await side.channel.close()
        await side.server.stop(0)
