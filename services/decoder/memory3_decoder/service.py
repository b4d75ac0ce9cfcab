"""The decoder put together: an aio server, a servicer, and the decoder behind it."""

from __future__ import annotations

import asyncio
import os
import signal

from prometheus_client import REGISTRY, CollectorRegistry

from memory3.rpc.options import ServerOptions
from memory3.rpc.server import AioRpcServer, build_aio_server
from memory3.rpc.serving import aio_serve_until_signal
from memory3.v1 import decoder_pb2, decoder_pb2_grpc
from memory3_decoder.decoder import Decoder
from memory3_decoder.metrics import DecoderMetrics
from memory3_decoder.servicer import DecoderServicer
from memory3_decoder.settings import DecoderSettings

SERVICE = decoder_pb2.DESCRIPTOR.services_by_name["DecoderService"].full_name


class DecoderService:
    """A decoder that can be started in a process of its own, or inside a test.

    Make it where the event loop runs.

    Attributes:
        server: Bound, not started.
        decoder: What it serves, once ``load`` is done.

    Args:
        settings: What it was told.
        registry: Where its metrics are registered.

    Raises:
        PortInUseError: The address cannot be listened on.
    """

    def __init__(self, settings: DecoderSettings, registry: CollectorRegistry = REGISTRY) -> None:
        self.settings = settings
        self.decoder: Decoder | None = None
        self._metrics = DecoderMetrics(registry)
        self._servicer = DecoderServicer()
        self.server: AioRpcServer = build_aio_server(
            ServerOptions.from_settings(SERVICE, settings, registry=registry),
            lambda server: decoder_pb2_grpc.add_DecoderServiceServicer_to_server(
                self._servicer, server
            ),
        )

    async def load(self) -> None:
        """Load and warm up. Calls are refused with LoadingError until it is done."""
        self.decoder = await Decoder.load(self.settings, self._metrics, _leave)
        self._servicer.attach(self.decoder)

    async def close(self) -> None:
        """End the engine and its threads, after the server has stopped."""
        if self.decoder is not None:
            await self.decoder.close()


def run(settings: DecoderSettings) -> None:
    """Serve until SIGTERM or SIGINT; call it on the main thread."""

    async def serve() -> None:
        service = DecoderService(settings)
        await aio_serve_until_signal(service.server, load=service.load, close=service.close)

    asyncio.run(serve())


def _leave() -> None:
    """A decoder that can decode no more ends, so that its supervisor starts another."""
    os.kill(os.getpid(), signal.SIGTERM)
