"""The encoder put together: a thread-pool server, a servicer, and what loads behind it.

Threads rather than asyncio, by measurement: see the service's README.
"""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry

from memory3.rpc.options import ServerOptions
from memory3.rpc.server import RpcServer, build_server
from memory3.rpc.serving import serve_until_signal
from memory3.v1 import encoder_pb2, encoder_pb2_grpc
from memory3_encoder.loading import load
from memory3_encoder.metrics import EncoderMetrics
from memory3_encoder.servicer import EncoderServicer, Loaded
from memory3_encoder.settings import EncoderSettings

SERVICE = encoder_pb2.DESCRIPTOR.services_by_name["EncoderService"].full_name


class EncoderService:
    """An encoder that can be started in a process of its own, or inside a test.

    Args:
        settings: What it was told.
        registry: Where its metrics are registered.

    Raises:
        PortInUseError: The address cannot be listened on.
    """

    def __init__(self, settings: EncoderSettings, registry: CollectorRegistry = REGISTRY) -> None:
        self.settings = settings
        self._metrics = EncoderMetrics(registry)
        self._servicer = EncoderServicer(self._metrics)
        self._loaded: Loaded | None = None
        self.server: RpcServer = build_server(
            ServerOptions.from_settings(SERVICE, settings, registry=registry),
            lambda server: encoder_pb2_grpc.add_EncoderServiceServicer_to_server(
                self._servicer, server
            ),
        )

    def load(self) -> None:
        """Load and warm up; blocks. Calls are refused with LoadingError until it is done."""
        # This takes seconds and brings torch in, while health already answers.
        self._loaded = load(self.settings, self._metrics)
        self._servicer.attach(self._loaded)

    def close(self) -> None:
        """End the engine's threads, after the server has stopped."""
        if self._loaded is not None:
            self._loaded.engine.close()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; call it on the main thread."""
        serve_until_signal(self.server, load=self.load, close=self.close)
