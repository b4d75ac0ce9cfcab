"""Building a gRPC server the way all services do, thread-pool or aio, and binding its ports.

It must not know signals or processes (``memory3.rpc.serving`` does) nor any one service.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection

from memory3.errors import PortInUseError
from memory3.observability.event_loop import EventLoopLag
from memory3.rpc.admission import Admission
from memory3.rpc.guard import CallGuard
from memory3.rpc.health import AioHealth, Health
from memory3.rpc.interceptors import AioInterceptor, ThreadInterceptor
from memory3.rpc.logging import get_logger
from memory3.rpc.metrics import RpcMetrics
from memory3.rpc.metrics_server import serve_metrics
from memory3.rpc.options import ServerOptions
from memory3.rpc.security.authorizer import Authorizer
from memory3.rpc.security.token_file import TokenFile
from memory3.rpc.unguarded import AioUnguardedInterceptor, Probes, UnguardedInterceptor

__all__ = [
    "AioRpcServer",
    "RpcServer",
    "ServerOptions",
    "build_aio_server",
    "build_server",
    "write_port_file",
]

_log = get_logger(__name__)

# Threads beyond the admitted calls, so that refusals never wait for work.
_RESERVED_THREADS = 8

# Without this a second server binds the same port in silence.
_OWN_PORT = [("grpc.so_reuseport", 0)]


class _Bound:
    """The port of a server and its metrics endpoint, while it runs."""

    def __init__(self, options: ServerOptions, port: int) -> None:
        self.options = options
        self.port = port
        self._cleanup = contextlib.ExitStack()

    @property
    def address(self) -> str:
        """Where clients connect: ``host:port``."""
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        return f"{host}:{self.port}"

    def _publish(self) -> None:
        options = self.options
        if options.is_overheard:
            _log.warning(
                "tokens can be read on the way: give tls_cert and tls_key",
                host=options.host,
            )
        if options.metrics_port:
            self._cleanup.callback(
                serve_metrics(options.metrics_host, options.metrics_port, options.registry)
            )
        if options.port_file is not None:
            write_port_file(options.port_file, self.port)

    def _withdraw(self) -> None:
        self._cleanup.close()


class RpcServer(_Bound):
    """A thread-pool server with health, metrics and guards. Made by ``build_server``."""

    def __init__(
        self, options: ServerOptions, port: int, server: grpc.Server, health: Health
    ) -> None:
        super().__init__(options, port)
        self.health = health
        self._server = server
        self._probes: grpc.Server | None = None
        if options.health_port:
            probes = Probes()
            self._probes = grpc.server(
                probes.threads, interceptors=[UnguardedInterceptor(probes)], options=_OWN_PORT
            )
            health.add_to(self._probes)
            _bind(options, self._probes.add_insecure_port, "health_port")

    def start(self) -> None:
        """Answer calls: health at once, all others once ``health.set_ready`` was called."""
        self._server.start()
        if self._probes is not None:
            self._probes.start()
        self._publish()

    def stop(self, grace_s: float | None = None) -> None:
        """Refuse new calls, give those in flight so many seconds, then end them."""
        self._server.stop(self.options.grace_seconds if grace_s is None else grace_s).wait()
        if self._probes is not None:
            self._probes.stop(0).wait()
        self._withdraw()


class AioRpcServer(_Bound):
    """An aio server with health, metrics and guards. Made by ``build_aio_server``."""

    def __init__(
        self, options: ServerOptions, port: int, server: grpc.aio.Server, health: AioHealth
    ) -> None:
        super().__init__(options, port)
        self.health = health
        self._server = server
        self._lag = EventLoopLag(options.registry)
        self._probes: grpc.aio.Server | None = None
        if options.health_port:
            self._probes = grpc.aio.server(
                interceptors=[AioUnguardedInterceptor()], options=_OWN_PORT
            )
            health.add_to(self._probes)
            _bind(options, self._probes.add_insecure_port, "health_port")

    async def start(self) -> None:
        """Answer calls: health at once, all others once ``health.set_ready`` was called."""
        await self.health.start()
        await self._server.start()
        self._lag.start()
        if self._probes is not None:
            await self._probes.start()
        self._publish()

    async def stop(self, grace_s: float | None = None) -> None:
        """Refuse new calls, give those in flight so many seconds, then end them."""
        await self._server.stop(self.options.grace_seconds if grace_s is None else grace_s)
        await self._lag.stop()
        if self._probes is not None:
            await self._probes.stop(0)
        self._withdraw()


def build_server(options: ServerOptions, add: Callable[[grpc.Server], None]) -> RpcServer:
    """A thread-pool server, bound but not started.

    Args:
        options: How it listens, limits and leaves.
        add: Registers the servicers: ``lambda server: add_XServicer_to_server(servicer, server)``.

    Raises:
        PortInUseError: The address cannot be listened on.
    """
    health = Health(options.service)
    server = grpc.server(
        futures.ThreadPoolExecutor(
            options.max_concurrent + _RESERVED_THREADS, thread_name_prefix="rpc"
        ),
        interceptors=[ThreadInterceptor(_guard(options, health), Probes())],
        options=_channel_arguments(options),
    )
    health.add_to(server)
    add(server)
    _add_reflection(options, server)
    return RpcServer(options, _bind(options, _adder(options, server)), server, health)


def build_aio_server(
    options: ServerOptions, add: Callable[[grpc.aio.Server], None]
) -> AioRpcServer:
    """An aio server, bound but not started; call it where the event loop runs.

    Args:
        options: How it listens, limits and leaves.
        add: Registers the servicers: ``lambda server: add_XServicer_to_server(servicer, server)``.

    Raises:
        PortInUseError: The address cannot be listened on.
    """
    health = AioHealth(options.service)
    server = grpc.aio.server(
        interceptors=[AioInterceptor(_guard(options, health))],
        options=_channel_arguments(options),
    )
    health.add_to(server)
    add(server)
    _add_reflection(options, server)
    return AioRpcServer(options, _bind(options, _adder(options, server)), server, health)


def write_port_file(path: Path, port: int) -> None:
    """Write a port so that a reader sees all of it or no file at all."""
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        file.write(f"{port}\n")
    os.replace(file.name, path)


def _guard(options: ServerOptions, health: Health | AioHealth) -> CallGuard:
    admission = Admission(options.max_concurrent, options.method_limits)
    metrics = RpcMetrics.on(options.registry)
    metrics.watch(health)
    authorizer = Authorizer(TokenFile(options.tokens_file)) if options.tokens_file else None
    return CallGuard(health, admission, metrics, authorizer)


def _adder(options: ServerOptions, server: grpc.Server | grpc.aio.Server) -> Callable[[str], int]:
    tls = options.tls
    if tls is None:
        return server.add_insecure_port
    credentials = tls.credentials()
    return lambda address: server.add_secure_port(address, credentials)


def _channel_arguments(options: ServerOptions) -> list[tuple[str, Any]]:
    arguments: list[tuple[str, Any]] = [
        *_OWN_PORT,
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.max_send_message_length", options.max_message_bytes),
        # Clients ping every 60 s, also between calls; twice as often is still no flood.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
    ]
    if options.max_connection_age_s:
        age_ms = int(options.max_connection_age_s * 1000)
        arguments.append(("grpc.max_connection_age_ms", age_ms))
        grace_ms = int(options.grace_seconds * 1000)
        arguments.append(("grpc.max_connection_age_grace_ms", grace_ms))
    return arguments


def _bind(options: ServerOptions, add_port: Callable[[str], int], field: str = "port") -> int:
    host = f"[{options.host}]" if ":" in options.host else options.host
    wanted = getattr(options, field)
    try:
        port = add_port(f"{host}:{wanted}")
    except RuntimeError:
        port = 0
    if port == 0:
        raise PortInUseError(
            f"cannot listen on {host}:{wanted}",
            field=field,
            remedy="stop what listens there, or choose another port (0 takes a free one)",
        )
    return port


def _add_reflection(options: ServerOptions, server: Any) -> None:
    if options.reflection:
        own = (options.service, *options.other_services)
        names = (*own, "grpc.health.v1.Health", reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
