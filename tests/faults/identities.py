"""Three services that ask for tokens, and a token of every kind of caller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from memory3.rpc.security.tokens import digest_of, new_token
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import bank_admin_pb2, decoder_pb2, encoder_pb2, retriever_pb2
from tests.integration.in_process import InProcess, Running

MODULES = (encoder_pb2, retriever_pb2, bank_admin_pb2, decoder_pb2)

_ROLES = {
    "reader": '{ role = "reader", banks = ["acme"] }',
    "writer": '{ role = "writer", banks = ["acme"] }',
    "admin": '{ role = "admin", banks = ["acme"] }',
    "other": '{ role = "admin", banks = ["other-*"] }',
    "root": '{ role = "admin", banks = ["*"] }',
    "service": '{ role = "writer", banks = [] }',
    "expired": '{ role = "admin", banks = ["*"] }',
}


class Secured:
    """The services and the tokens.

    Attributes:
        services: By name, BankAdminService among them.
        tokens: By identity; ``none`` has none and ``wrong`` one that nobody was given.
    """

    def __init__(self, services: dict[str, Running], tokens: dict[str, str | None]) -> None:
        self.services = services
        self.tokens = tokens

    def call(self, service: str, method: str, identity: str, *requests: Any) -> list[Any]:
        """All responses to a call by an identity."""
        running = self.services[service]
        token = self.tokens[identity]
        metadata = (("authorization", f"Bearer {token}"),) if token is not None else ()
        descriptor = requests[0].DESCRIPTOR.file.services_by_name[service].methods_by_name[method]
        given = iter(requests) if descriptor.client_streaming else requests[0]
        answered = getattr(running.stub, method)(given, timeout=30, metadata=metadata)
        return list(answered) if descriptor.server_streaming else [answered]

    def outcome(
        self, service: str, method: str, identity: str, *requests: Any
    ) -> tuple[str, str | None]:
        """The code and the message of a call."""
        try:
            self.call(service, method, identity, *requests)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return "OK", None


@contextmanager
def secured_services(folder: Path, **settings: Any) -> Iterator[Secured]:
    """Start the three services with one file of tokens."""
    tokens: dict[str, str | None] = {name: new_token() for name in _ROLES}
    lines = []
    for name, role in _ROLES.items():
        digest = digest_of(str(tokens[name])).hex()
        lines.append(f'[[tokens]]\nid = "{name}"\nsha256 = "{digest}"\nroles = [{role}]')
        if name == "expired":
            lines.append("expires = 2020-01-01T00:00:00Z")
    file = folder / "tokens.toml"
    file.write_text("\n".join(lines))
    own = folder / "service.token"
    own.write_text(f"{tokens['service']}\n")
    tokens |= {"none": None, "wrong": new_token()}
    checkpoint = tiny_checkpoint(folder / "checkpoint", references_per_chunk=3)
    with InProcess() as start:
        secure = {"tokens_file": file, **settings}
        encoder = start.encoder(checkpoint, **secure)
        retriever = start.retriever(
            checkpoint, folder / "data", encoder, peer_token_file=own, **secure
        )
        decoder = start.decoder(checkpoint, retriever, **secure)
        yield Secured(
            {
                "EncoderService": encoder,
                "RetrieverService": retriever,
                "DecoderService": decoder,
                "BankAdminService": Running("BankAdminService", retriever.address, lambda: None),
            },
            tokens,
        )
