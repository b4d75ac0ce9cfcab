"""redis-py's client for an address, made when it is first needed.

Making one for a cluster asks its nodes for their slots, and nothing here may keep a retriever from
starting, so even that happens at the first use. No client tries more than twice, and none says more
when it connects than AUTH, CLIENT SETNAME and SELECT.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.credentials import CredentialProvider
from redis.retry import Retry
from redis.sentinel import Sentinel

from memory3_retriever.caches.redis_address import CLUSTER, SENTINEL, UNIX, Login, RedisAddress

_MAX_CONNECTIONS = 128

Client = redis.Redis | RedisCluster


class LoginProvider(CredentialProvider):
    """Tells user and password whenever a connection is made, from the file as it is then."""

    def __init__(self, login: Login) -> None:
        self._login = login

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """User and password, or the password alone."""
        password = self._login.read_password()
        return (self._login.username, password) if self._login.username else (password,)


class RedisClients:
    """Has the client of an address.

    Args:
        address: Where Redis is.
    """

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._closing = contextlib.ExitStack()

    def get(self) -> Client:
        """The client; where it is of a cluster, the first call asks the nodes for their slots.

        Raises:
            redis.RedisError, RedisClusterException, OSError: No node tells.
        """
        with self._lock:
            if self._client is None:
                self._client = self._make()
                self._closing.callback(self._client.close)
            return self._client

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._closing.close()

    def _make(self) -> Client:
        address = self._address
        if address.kind == CLUSTER:
            return RedisCluster(
                startup_nodes=[_node(host, port) for host, port in address.hosts],
                # A part of the cluster is better than none of it, and names outlive addresses.
                require_full_coverage=False,
                dynamic_startup_nodes=False,
                retry=_retries(1),
                **_options(address, address.login),
            )
        options = _options(address, address.login) | {"db": address.db}
        if address.kind == SENTINEL:
            asked = _options(address, address.sentinel_login) | {"retry": _retries(0)}
            # redis-py leaves these without types.
            sentinel = Sentinel(address.hosts, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
            self._closing.callback(sentinel.close)
            master: redis.Redis = sentinel.master_for(  # type: ignore[no-untyped-call]
                address.service, retry=_retries(1), **options
            )
            return master
        if address.kind == UNIX:
            options["unix_socket_path"] = address.path
        else:
            options["host"], options["port"] = address.hosts[0]
        return redis.Redis(retry=_retries(1), **options)


def _node(host: str, port: int) -> ClusterNode:
    return ClusterNode(host, port)  # type: ignore[no-untyped-call]


def _options(address: RedisAddress, login: Login) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": address.timeout_s,
        "socket_connect_timeout": address.connect_timeout_s,
        "max_connections": _MAX_CONNECTIONS,
        # The older protocol needs no HELLO, and no server needs to know the library's version.
        "protocol": 2,
        "driver_info": None,
        # For operators; and over TLS 1.3 redis-py takes a connection on which nothing has been
        # answered yet for one with unread data: what has come are the server's tickets.
        "client_name": "memory3",
    }
    if login.needed:
        options["credential_provider"] = LoginProvider(login)
    if address.tls is not None:
        options |= {"ssl": True, "ssl_check_hostname": address.tls.check_hostname}
        options |= address.tls.files
    return options


def _retries(number: int) -> Retry:
    return Retry(NoBackoff(), number)
