"""What tools such as grpcurl see of a service that describes itself."""

from pathlib import Path

import grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from memory3.testing.checkpoints import tiny_checkpoint
from tests.integration.in_process import InProcess

OWN = {
    "encoder": {"memory3.v1.EncoderService"},
    "retriever": {"memory3.v1.RetrieverService", "memory3.v1.BankAdminService"},
    "decoder": {"memory3.v1.DecoderService"},
}
EVERYWHERE = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


def test_every_service_that_is_served_is_told(tmp_path: Path) -> None:
    """Those of memory3 with their methods, and those that all servers have."""
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint", references_per_chunk=3)
    with InProcess() as start:
        encoder = start.encoder(checkpoint, reflection=True)
        retriever = start.retriever(checkpoint, tmp_path / "data", encoder, reflection=True)
        decoder = start.decoder(checkpoint, retriever, reflection=True)
        for name, running in (("encoder", encoder), ("retriever", retriever), ("decoder", decoder)):
            with grpc.insecure_channel(running.address) as channel:
                told = ProtoReflectionDescriptorDatabase(channel)
                assert set(told.get_services()) == OWN[name] | EVERYWHERE
                for service in OWN[name]:
                    file = told.FindFileContainingSymbol(service)
                    (described,) = (s for s in file.service if service.endswith(f".{s.name}"))
                    assert described.method
