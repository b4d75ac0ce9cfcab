"""A gateway on a real port, in a thread with its own event loop, before small services."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from memory3_gateway.service import GatewayService
from memory3_gateway.settings import GatewaySettings
from prometheus_client import CollectorRegistry

from tests.unit.client.conftest import services
from tests.unit.client.servers import Services
from tests.waiting import eventually

__all__ = ["services"]


class RunningGateway:
    """A gateway that serves until it is told to leave."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.registry = CollectorRegistry()
        self.service = GatewayService(settings, self.registry)
        self.port = self.service.port
        scheme = "https" if self.service.options.tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clients: list[openai.OpenAI] = []
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.thread.start()
        assert eventually(lambda: self.service._server.started)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.service.serve()

    def leave(self) -> None:
        """What a signal does."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self.service.leave)

    def stop(self) -> None:
        """Leave at once, and wait until it has left. Its clients are closed."""
        for client in self._clients:
            client.close()
        if self.thread.is_alive():
            self.leave()
            self.leave()
        self.thread.join()

    def client(self, **options: Any) -> openai.OpenAI:
        """The official client for it."""
        given = {"api_key": "none", "max_retries": 0, **options}
        self._clients.append(openai.OpenAI(base_url=f"{self.url}/v1", **given))
        return self._clients[-1]


MakeGateway = Callable[..., RunningGateway]


@pytest.fixture
def make_gateway(services: Services) -> Iterator[MakeGateway]:
    """Makes gateways before the small services; all are stopped after the test."""
    made: list[RunningGateway] = []

    def make(**options: Any) -> RunningGateway:
        settings = GatewaySettings.load(**{"port": 0, **services.addresses, **options})
        made.append(RunningGateway(settings))
        return made[-1]

    yield make
    for gateway in made:
        gateway.stop()


@pytest.fixture
def gateway(make_gateway: MakeGateway) -> RunningGateway:
    """A gateway with the default settings."""
    return make_gateway()
