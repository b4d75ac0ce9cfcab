"""Clients of small services on real loopback sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from memory3.client import AsyncClient, Client
from tests.unit.client.servers import Services


@pytest.fixture
def services() -> Iterator[Services]:
    """Three small services."""
    started = Services()
    yield started
    started.stop()


@pytest.fixture
def client(services: Services) -> Iterator[Client]:
    """A client of them."""
    with Client(**services.addresses) as made:
        yield made


@pytest.fixture
async def aio_client(services: Services) -> AsyncIterator[AsyncClient]:
    """An asyncio client of them."""
    async with AsyncClient(**services.addresses) as made:
        yield made
