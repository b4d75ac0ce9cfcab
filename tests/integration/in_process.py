"""The three services in this process, on real sockets, and the refusals that calls to them end in.

Starting one takes no longer than loading its checkpoint, so a test may have as many as it likes, of
different checkpoints.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from memory3_decoder.service import DecoderService
from memory3_decoder.settings import DecoderSettings
from memory3_encoder.service import EncoderService
from memory3_encoder.settings import EncoderSettings
from memory3_retriever.service import RetrieverService
from memory3_retriever.settings import RetrieverSettings
from prometheus_client import CollectorRegistry

from memory3.checkpoint import Checkpoint
from memory3.rpc.channel import connect
from memory3.rpc.status import DETAILS_KEY, DOMAIN
from memory3.v1 import bank_admin_pb2_grpc, decoder_pb2_grpc, encoder_pb2_grpc, retriever_pb2_grpc

ResultT = TypeVar("ResultT")

WAIT_S = 60.0
_STUBS = {
    "EncoderService": encoder_pb2_grpc.EncoderServiceStub,
    "RetrieverService": retriever_pb2_grpc.RetrieverServiceStub,
    "DecoderService": decoder_pb2_grpc.DecoderServiceStub,
    "BankAdminService": bank_admin_pb2_grpc.BankAdminServiceStub,
}


class Running:
    """A service that runs, and a way to call it.

    Attributes:
        address: Where it listens.
        stub: Its methods.
    """

    def __init__(self, service: str, address: str, stop: Callable[[], None]) -> None:
        self.address = address
        self.channel = connect(address, retries=False)
        self.stub: Any = _STUBS[service](self.channel)
        self._stop: Callable[[], None] | None = stop

    def stop(self) -> None:
        """End it, unless it has ended."""
        if self._stop is not None:
            self.channel.close()
            self._stop()
            self._stop = None

    def call(self, method: str, *requests: Any) -> list[Any]:
        """All responses to a call of a method, whichever way it streams."""
        descriptor = self._descriptor(method, requests)
        given = iter(requests) if descriptor.client_streaming else requests[0]
        answered = getattr(self.stub, method)(given, timeout=WAIT_S)
        return list(answered) if descriptor.server_streaming else [answered]

    def _descriptor(self, method: str, requests: Iterable[Any]) -> Any:
        file = next(iter(requests)).DESCRIPTOR.file
        (service,) = file.services_by_name.values()
        return service.methods_by_name[method]


class InProcess:
    """Starts services and ends them together; use it in a ``with`` block."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="decoder-loop")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def encoder(self, checkpoint: Checkpoint, **settings: Any) -> Running:
        """Start an encoder."""
        given = {"checkpoint": checkpoint.path, "port": 0, "dtype": "float32", **settings}
        service = EncoderService(EncoderSettings.load(**given), CollectorRegistry())
        return self._start_threads("EncoderService", service)

    def retriever(
        self, checkpoint: Checkpoint, data: Path, encoder: Running, **settings: Any
    ) -> Running:
        """Start a retriever on a data folder."""
        given = {"checkpoint": checkpoint.path, "data": data, "encoder": encoder.address, "port": 0}
        service = RetrieverService(
            RetrieverSettings.load(**{**given, **settings}), CollectorRegistry()
        )
        return self._start_threads("RetrieverService", service)

    def decoder(self, checkpoint: Checkpoint, retriever: Running, **settings: Any) -> Running:
        """Start a decoder."""
        given = {
            "checkpoint": checkpoint.path,
            "retriever": retriever.address,
            "port": 0,
            "model_in": "thread",
        }
        loaded = DecoderSettings.load(**{**given, "retrieval_timeout_s": 30.0, **settings})

        async def start() -> DecoderService:
            service = DecoderService(loaded, CollectorRegistry())
            await service.server.start()
            await service.load()
            await service.server.health.set_ready()
            return service

        service = self._await(start())

        async def stop() -> None:
            await service.server.stop(0)
            await service.close()

        return self._keep("DecoderService", service, lambda: self._await(stop()))

    def _await(self, work: Awaitable[ResultT]) -> ResultT:
        async def run() -> ResultT:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(WAIT_S)

    def _start_threads(self, name: str, service: EncoderService | RetrieverService) -> Running:
        service.server.start()
        service.load()
        service.server.health.set_ready()

        def stop() -> None:
            service.server.stop(0)
            service.close()

        return self._keep(name, service, stop)

    def _keep(self, name: str, service: Any, stop: Callable[[], None]) -> Running:
        running = Running(name, service.server.address, stop)
        self._stack.callback(running.stop)
        return running


@dataclass(frozen=True)
class Refusal:
    """How a call failed: the code, and the one ErrorInfo that comes with it."""

    code: str
    reason: str
    field: str
    remedy: str
    metadata: dict[str, str]


def refusal(call: Callable[[], Any]) -> Refusal:
    """How a call fails; it must fail, with exactly one ErrorInfo of this project."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    error: Any = raised.value
    trailing = dict(error.trailing_metadata() or ())
    assert DETAILS_KEY in trailing, f"{error.code()} {error.details()}"
    status = status_pb2.Status.FromString(trailing[DETAILS_KEY])
    assert status.code == error.code().value[0]
    infos = [detail for detail in status.details if detail.Is(_INFO)]
    assert len(infos) == 1
    info = error_details_pb2.ErrorInfo()
    infos[0].Unpack(info)
    assert info.domain == DOMAIN
    facts = dict(info.metadata)
    return Refusal(
        error.code().name, info.reason, facts.pop("field", ""), facts.pop("remedy", ""), facts
    )


_INFO = error_details_pb2.ErrorInfo.DESCRIPTOR
