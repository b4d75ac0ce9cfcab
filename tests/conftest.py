"""What all tests share: one thread for torch, quiet logs, and real Redis servers."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.redis_server import RedisServer
from tests.redis_topologies import ClusterServers, SentinelServers

# Read by torch when it is first imported: two threads beside a busy neighbour are many times
# slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, and no time limit for one: a busy machine must not fail a test.
settings.register_profile("steady", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("steady")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the checkout."""
    return ROOT


def _new_server() -> tuple[RedisServer, Path]:
    # Directly under the temporary folder: a socket's path may not be longer than 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    server = RedisServer(folder)
    server.start()
    return server, folder


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """One real Redis server for the whole run; use ``redis_server``, which empties it."""
    server, folder = _new_server()
    yield server
    server.kill()
    shutil.rmtree(folder)


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """A real and empty Redis server; do not kill it."""
    shared_redis.flush()
    return shared_redis


@pytest.fixture
def own_redis_server() -> Iterator[RedisServer]:
    """A real Redis server for this test alone, to kill and start again."""
    server, folder = _new_server()
    yield server
    server.kill()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def shared_sentinels() -> Iterator[SentinelServers]:
    """A master, a replica and a Sentinel for the whole run."""
    with SentinelServers.started() as servers:
        yield servers


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[ClusterServers]:
    """A cluster for the whole run."""
    with ClusterServers.started() as servers:
        yield servers
