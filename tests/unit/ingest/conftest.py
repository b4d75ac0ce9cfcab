"""Ingestion talks to the same small services as the tests of the clients."""

from tests.unit.client.conftest import client, services

__all__ = ["client", "services"]
