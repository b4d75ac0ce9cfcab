"""The gateway put together: its servers, its metrics, and how it leaves.

SIGTERM or SIGINT → ``/ready`` says 503 → ``drain_seconds`` in which all is still answered → no new
connections, ``grace_seconds`` for answers under way → exit code 0. A second signal hurries. The
port for probes, where there is one, answers to the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal

from prometheus_client import REGISTRY, CollectorRegistry

from memory3.rpc.health import Phase
from memory3.rpc.logging import get_logger
from memory3.rpc.metrics_server import serve_metrics
from memory3.rpc.options import ServerOptions
from memory3.rpc.server import write_port_file
from memory3_gateway.app import build_app, build_probes
from memory3_gateway.gateway import Gateway
from memory3_gateway.listening import HttpServer
from memory3_gateway.metrics import GatewayMetrics
from memory3_gateway.settings import GatewaySettings

_log = get_logger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class GatewayService:
    """A gateway that can be started in a process of its own, or inside a test.

    Args:
        settings: What it was told.
        registry: Where its metrics are registered.

    Raises:
        SettingsError: The host can be reached from elsewhere and that is not allowed; or the file
            of tokens, or a certificate, cannot be used.
        PortInUseError: An address cannot be listened on.
    """

    def __init__(self, settings: GatewaySettings, registry: CollectorRegistry = REGISTRY) -> None:
        self.settings = settings
        self.options = ServerOptions.from_settings("memory3.gateway", settings, registry=registry)
        self._metrics = GatewayMetrics(registry)
        self._first, self._second = asyncio.Event(), asyncio.Event()
        app = build_app(settings, self.options, self._metrics)
        grace_s = settings.grace_seconds
        self._server = HttpServer(
            app, settings.host, settings.port, grace_s=grace_s, tls=self.options.tls
        )
        self._apps, self._probe_server = [app], None
        if settings.health_port:
            probes, port = build_probes(), settings.health_port
            try:
                self._probe_server = HttpServer(
                    probes, settings.host, port, grace_s=0, field="health_port"
                )
            except BaseException:
                self._server.close()
                raise
            self._apps.append(probes)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.port

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
            self._metrics.watch(gateway.lifecycle)
            for app in self._apps:
                app.state.gateway = gateway
            if options.is_overheard:
                _log.warning(
                    "tokens can be read on the way: give tls_cert and tls_key", host=options.host
                )
            if options.metrics_port:
                cleanup.callback(
                    serve_metrics(options.metrics_host, options.metrics_port, options.registry)
                )
            self._metrics.lag.start()
            cleanup.push_async_callback(self._metrics.lag.stop)
            serving = asyncio.ensure_future(self._server.serve_here())
            leaving = asyncio.ensure_future(self._leave_when_told(gateway))
            if self._probe_server is not None:
                asked = asyncio.ensure_future(self._probe_server.serve_here())
                cleanup.push_async_callback(self._end_probes, asked)
            port = self.port
            while not (self._server.started or serving.done()):
                await asyncio.sleep(0.01)
            gateway.lifecycle.phase = Phase.READY
            if options.port_file is not None:
                write_port_file(options.port_file, port)
            scheme = "https" if options.tls else "http"
            _log.info("listening", address=f"{scheme}://{self.settings.host}:{port}")
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

    async def _end_probes(self, asked: asyncio.Task[None]) -> None:
        assert self._probe_server is not None
        self._probe_server.should_exit = True
        await asked
