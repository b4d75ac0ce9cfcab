"""What all methods of the servicer stand on."""

from __future__ import annotations

from memory3.errors import LoadingError
from memory3.v1 import retriever_pb2_grpc
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.names import bank_id
from memory3_retriever.loading import Loaded
from memory3_retriever.models import Model


class LoadedServicer:
    """Holds what answering takes, once it is loaded."""

    def __init__(self) -> None:
        self._attached: Loaded | None = None

    def attach(self, loaded: Loaded) -> None:
        """Give what answering takes."""
        self._attached = loaded

    def _loaded(self) -> Loaded:
        if self._attached is None:
            raise LoadingError("the retriever is still loading", retry_after_s=0.5)
        return self._attached

    def _model(self, bank: LiveBank) -> Model:
        return self._loaded().models.of(bank)

    def _bank(self, name: str, field: str) -> LiveBank:
        return self._loaded().catalog.get(bank_id(name, field), field)


class ServicerBase(LoadedServicer, retriever_pb2_grpc.RetrieverServiceServicer):
    """The same for RetrieverService."""
