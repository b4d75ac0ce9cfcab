"""The retriever put together: a thread-pool server, a servicer, and what loads behind it.

Threads rather than asyncio, by measurement: see the service's README.
"""

from __future__ import annotations

import grpc
from prometheus_client import REGISTRY, CollectorRegistry

from memory3.rpc.options import ServerOptions
from memory3.rpc.server import RpcServer, build_server
from memory3.rpc.serving import serve_until_signal
from memory3.v1 import bank_admin_pb2, bank_admin_pb2_grpc, retriever_pb2, retriever_pb2_grpc
from memory3_retriever.loading import Loaded, load
from memory3_retriever.metrics import RetrieverMetrics
from memory3_retriever.servicer import RetrieverServicer
from memory3_retriever.servicer_admin import BankAdminServicer
from memory3_retriever.settings import RetrieverSettings

SERVICE = retriever_pb2.DESCRIPTOR.services_by_name["RetrieverService"].full_name
ADMIN_SERVICE = bank_admin_pb2.DESCRIPTOR.services_by_name["BankAdminService"].full_name

# These read or write whole banks; more of them at once would only make all of them slower.
_WHOLE_BANK_CALLS = (
    *("VerifyBank", "SnapshotBank", "RestoreBank", "ReencodeBank", "PublishBank"),
    *("WarmBank", "CompactBank", "RepairBank", "EraseReferences"),
    *("VerifySnapshot", "DownloadSnapshot", "UploadSnapshot"),
)


class RetrieverService:
    """A retriever that can be started in a process of its own, or inside a test.

    Args:
        settings: What it was told.
        registry: Where its metrics are registered.

    Raises:
        PortInUseError: The address cannot be listened on.
    """

    def __init__(self, settings: RetrieverSettings, registry: CollectorRegistry = REGISTRY) -> None:
        self.settings = settings
        self._metrics = RetrieverMetrics.on(registry)
        self._servicer = RetrieverServicer()
        self._admin = BankAdminServicer()
        self._loaded: Loaded | None = None
        limits = dict.fromkeys(_WHOLE_BANK_CALLS, 2) | dict.fromkeys(
            ("AddDocuments", "AddReferences"), settings.max_streams
        )
        self.server: RpcServer = build_server(
            ServerOptions.from_settings(
                SERVICE,
                settings,
                registry=registry,
                method_limits=limits,
                other_services=(ADMIN_SERVICE,),
            ),
            self._register,
        )

    def load(self) -> None:
        """Open everything; blocks. Calls are refused with LoadingError until it is done."""
        self._loaded = load(self.settings, self._metrics)
        for servicer in (self._servicer, self._admin):
            servicer.attach(self._loaded)

    def close(self) -> None:
        """Close everything, after the server has stopped."""
        if self._loaded is not None:
            self._loaded.close()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; call it on the main thread."""
        serve_until_signal(self.server, load=self.load, close=self.close)

    def _register(self, server: grpc.Server) -> None:
        retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(self._servicer, server)
        bank_admin_pb2_grpc.add_BankAdminServiceServicer_to_server(self._admin, server)
