"""The gateway put together: an HTTP server, its metrics, and how it leaves.

SIGTERM or SIGINT → ``/ready`` says 503 → ``drain_seconds`` in which all is still answered → no new
connections, ``grace_seconds`` for answers under way → exit code 0. A second signal hurries.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator

import uvicorn
from prometheus_client import REGISTRY, CollectorRegistry

from memory3.errors import PortInUseError
from memory3.rpc.health import Phase
from memory3.rpc.logging import get_logger
from memory3.rpc.metrics_server import serve_metrics
from memory3.rpc.options import ServerOptions
from memory3.rpc.server import write_port_file
from memory3_gateway.app import build_app
from memory3_gateway.gateway import Gateway
from memory3_gateway.metrics import GatewayMetrics
from memory3_gateway.settings import GatewaySettings

_log = get_logger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_BACKLOG = 512


class _Server(uvicorn.Server):
    """A server that leaves signals to the service, which has more to do at one."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class GatewayService:
    """A gateway that can be started in a process of its own, or inside a test.

    Args:
        settings: What it was told.
        registry: Where its metrics are registered.

    Raises:
        SettingsError: The host can be reached from elsewhere and that is not allowed.
        PortInUseError: The address cannot be listened on.
    """

    def __init__(self, settings: GatewaySettings, registry: CollectorRegistry = REGISTRY) -> None:
        self.settings = settings
        self.options = ServerOptions.from_settings("memory3.gateway", settings, registry=registry)
        self._metrics = GatewayMetrics(registry)
        self._app = build_app(settings, self._metrics)
        self._socket = _bind(settings.host, settings.port)
        self._first, self._second = asyncio.Event(), asyncio.Event()
        self._server = _Server(
            uvicorn.Config(
                self._app,
                log_config=None,
                access_log=False,
                lifespan="off",
                http="h11",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
            )
        )

    @property
    def port(self) -> int:
        """The port that it listens on."""
        found: int = self._socket.getsockname()[1]
        return found

    def leave(self) -> None:
        """What a signal does: the first drains, the second hurries."""
        (self._second if self._first.is_set() else self._first).set()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; call it on the main thread."""
        asyncio.run(self._run_with_signals())

    async def serve(self) -> None:
        """Serve until ``leave``."""
        async with contextlib.AsyncExitStack() as cleanup:
            options = self.options
            # Made here, for its connections belong to this event loop.
            gateway = Gateway.open(self.settings, self._metrics)
            cleanup.push_async_callback(gateway.close)
            self._app.state.gateway = gateway
            if options.metrics_port:
                cleanup.callback(
                    serve_metrics(options.metrics_host, options.metrics_port, options.registry)
                )
            self._metrics.lag.start()
            cleanup.push_async_callback(self._metrics.lag.stop)
            serving = asyncio.ensure_future(self._server.serve(sockets=[self._socket]))
            leaving = asyncio.ensure_future(self._leave_when_told(gateway))
            port = self.port
            while not (self._server.started or serving.done()):
                await asyncio.sleep(0.01)
            gateway.lifecycle.phase = Phase.READY
            if options.port_file is not None:
                write_port_file(options.port_file, port)
            _log.info("listening", address=f"{self.settings.host}:{port}")
            await serving
            leaving.cancel()
            _log.info("stopped")

    async def _run_with_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.leave)
        await self.serve()

    async def _leave_when_told(self, gateway: Gateway) -> None:
        await self._first.wait()
        gateway.lifecycle.phase = Phase.DRAINING
        _log.info("draining", seconds=self.settings.drain_seconds)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._second.wait(), self.settings.drain_seconds)
        self._server.should_exit = True
        await self._second.wait()
        self._server.force_exit = True


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP: otherwise asyncio leaves Nagle's algorithm on, 40 ms for each small answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise PortInUseError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            field="port",
            remedy="stop what listens there, or choose another port (0 takes a free one)",
        ) from error
    return listener
