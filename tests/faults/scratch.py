"""The three services in this process, a bank that may be harmed, and every method they register.

Methods come from what the services hand to gRPC, not from a list: a new one is attacked by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import bank_admin_pb2, memory_pb2
from memory3.v1 import retriever_pb2 as ret
from tests.integration.bad_requests import BANK, Known
from tests.integration.in_process import InProcess, Running

_REGISTER = "method_handlers_generic_handler"
SNAPSHOT = "kept"


@dataclass(frozen=True)
class Method:
    """A method as it is registered with a server.

    Attributes:
        owner: The service that serves it, by the name of its main service.
        service: Full name of the service that it belongs to.
        name: Its bare name.
        request: The class of its requests.
    """

    owner: str
    service: str
    name: str
    request: Any
    client_streaming: bool
    server_streaming: bool

    @property
    def key(self) -> str:
        """As the tables of requests name it: ``Service.Method``."""
        return f"{self.service.rpartition('.')[2]}.{self.name}"

    def raw(self, channel: grpc.Channel) -> Any:
        """Calls it with bytes, whatever they are."""
        sides = ("stream" if s else "unary" for s in (self.client_streaming, self.server_streaming))
        make = getattr(channel, "_".join(sides))
        return make(f"/{self.service}/{self.name}", lambda data: data, lambda data: data)


class Scratch:
    """Services whose bank is put back after every harm.

    Attributes:
        known: The services, and what is in them.
        methods: Everything that they register.
    """

    def __init__(self, known: Known, methods: list[Method]) -> None:
        self.known = known
        self.methods = methods

    def renew(self) -> None:
        """Make what an attack may have removed, and remove what it may have made."""
        retriever = self.known.services["RetrieverService"]
        admin = self.known.services["BankAdminService"]
        (aliases,) = admin.call("ListAliases", bank_admin_pb2.ListAliasesRequest())
        for alias in aliases.aliases:
            admin.call("DeleteAlias", bank_admin_pb2.DeleteAliasRequest(name=alias.name))
        (banks,) = retriever.call("ListBanks", ret.ListBanksRequest())
        for bank in banks.banks:
            if bank.name != BANK:
                retriever.call("DeleteBank", ret.DeleteBankRequest(name=bank.name))
        made = ret.CreateBankRequest(bank=ret.Bank(name=BANK), allow_existing=True)
        retriever.call("CreateBank", made)
        reference = memory_pb2.Reference(text="Ada sails.")
        added = ret.AddReferencesRequest(bank=BANK, references=[reference])
        retriever.call("AddReferences", added)
        (snapshots,) = admin.call("ListSnapshots", bank_admin_pb2.ListSnapshotsRequest())
        for snapshot in snapshots.snapshots:
            if snapshot.id != SNAPSHOT:
                request = bank_admin_pb2.DeleteSnapshotRequest(snapshot=snapshot.id)
                admin.call("DeleteSnapshot", request)
        if SNAPSHOT not in {snapshot.id for snapshot in snapshots.snapshots}:
            taken = ret.SnapshotBankRequest(name=BANK, snapshot=SNAPSHOT)
            retriever.call("SnapshotBank", taken)

    def require_serving(self) -> None:
        """All are healthy."""
        for running in self.known.services.values():
            health = health_pb2_grpc.HealthStub(running.channel)
            for name in ("readiness", "liveness"):
                answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING


@contextmanager
def scratch_services(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Scratch]:
    """Start the services and note what they register."""
    checkpoint = tiny_checkpoint(folder / "checkpoint", references_per_chunk=3)
    registered: list[tuple[str, Any]] = []
    make = getattr(grpc, _REGISTER)

    def noted(service: str, handlers: Any) -> Any:
        registered.append((service, handlers))
        return make(service, handlers)

    patch.setattr(grpc, _REGISTER, noted)
    methods: list[Method] = []
    with InProcess() as start:

        def take(owner: str, running: Running) -> Running:
            methods.extend(each for named in registered for each in _methods(owner, *named))
            registered.clear()
            return running

        encoder = take("EncoderService", start.encoder(checkpoint, reflection=True))
        data = folder / "data"
        started = start.retriever(checkpoint, data, encoder, reflection=True)
        retriever = take("RetrieverService", started)
        decoder = take("DecoderService", start.decoder(checkpoint, retriever, reflection=True))
        services = {
            "EncoderService": encoder, "RetrieverService": retriever, "DecoderService": decoder,
            "BankAdminService": Running("BankAdminService", retriever.address, lambda: None),
        }  # fmt: skip
        scratch = Scratch(Known(services, checkpoint.digest, "", 0), methods)
        scratch.renew()
        (page,) = retriever.call("ListReferences", ret.ListReferencesRequest(bank=BANK))
        (bank,) = retriever.call("GetBank", ret.GetBankRequest(name=BANK))
        dimensions = bank.bank.embedder.dimensions
        known = Known(services, checkpoint.digest, page.references[0].id, dimensions)
        yield Scratch(known, methods)


def _methods(owner: str, service: str, handlers: Any) -> Iterator[Method]:
    described = descriptor_pool.Default().FindServiceByName(service)
    for name, handler in handlers.items():
        request = message_factory.GetMessageClass(described.methods_by_name[name].input_type)
        streams = handler.request_streaming, handler.response_streaming
        yield Method(owner, service, name, request, *streams)
