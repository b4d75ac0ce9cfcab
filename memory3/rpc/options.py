"""How a server listens, limits and leaves; misuse fails here, naming the field."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from prometheus_client import REGISTRY, CollectorRegistry

from memory3.errors import InvalidArgumentError, SettingsError
from memory3.rpc.security.tls import ServerTls
from memory3.settings import ServiceSettings


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How a server listens, limits and leaves.

    Attributes:
        service: The full service name, such as ``memory3.v1.EncoderService``.
        host: The address to listen on; another than loopback needs tokens, certificates of
            clients, or ``insecure``.
        port: The port to listen on; 0 takes a free one (``RpcServer.port`` says which).
        port_file: Where to write the port once bound, for whoever started this process.
        insecure: Accept a host that other machines reach although callers show nothing.
        tokens_file: Whose bearer tokens are accepted; None asks for none.
        tls_cert: The chain of the server's certificate, PEM; None serves plaintext.
        tls_key: Its key.
        tls_client_ca: Who must have signed the certificates of clients; None asks for none.
        health_port: A plaintext port that serves health alone; 0 for none.
        metrics_host: The address for Prometheus.
        metrics_port: The port for Prometheus; 0 for none.
        max_concurrent: The most calls in flight.
        method_limits: Lower limits for single methods, by bare name.
        max_message_bytes: The largest message, in either direction.
        max_connection_age_s: Close connections after so long, so that clients find new replicas;
            0 for never.
        drain_seconds: How long to go on answering after NOT_SERVING.
        grace_seconds: How long calls in flight may take to end after that.
        reflection: Serve the protocol's description; off by default.
        other_services: Full names of what the server serves besides, told by reflection.
        registry: Where metrics are registered and served from.
    """

    service: str
    host: str = "127.0.0.1"
    port: int = 0
    port_file: Path | None = None
    insecure: bool = False
    tokens_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    health_port: int = 0
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    max_concurrent: int = 64
    method_limits: Mapping[str, int] = field(default_factory=dict)
    max_message_bytes: int = 64 * 1024 * 1024
    max_connection_age_s: float = 0.0
    drain_seconds: float = 0.0
    grace_seconds: float = 10.0
    reflection: bool = False
    other_services: tuple[str, ...] = ()
    registry: CollectorRegistry = REGISTRY

    @classmethod
    def from_settings(cls, service: str, settings: ServiceSettings, **changes: Any) -> Self:
        """The options that a service's settings ask for.

        Args:
            service: The full service name.
            settings: Of the service.
            changes: Options that the settings do not have, such as ``method_limits``.
        """
        names = {field.name for field in fields(cls)} & set(type(settings).model_fields)
        taken = {name: getattr(settings, name) for name in names}
        return cls(service=service, **{**taken, **changes})

    def __post_init__(self) -> None:
        for name in ("port", "metrics_port", "health_port"):
            if not 0 <= getattr(self, name) <= 65535:
                raise InvalidArgumentError(
                    f"{getattr(self, name)} is not a port", field=name, remedy="use 0 to 65535"
                )
        self._check_tls()
        authenticated = self.tokens_file is not None or self.tls_client_ca is not None
        if self.is_public and not (authenticated or self.insecure):
            raise SettingsError(
                f"{self.host} can be reached from other machines and there is no authentication",
                field="host",
                remedy="listen on 127.0.0.1; or set tokens_file or tls_client_ca; or allow it with "
                "insecure where the network keeps strangers out",
            )

    @property
    def tls(self) -> ServerTls | None:
        """The server's certificate; None for plaintext."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        return ServerTls(self.tls_cert, self.tls_key, self.tls_client_ca)

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach the host."""
        return not _is_loopback(self.host)

    @property
    def is_overheard(self) -> bool:
        """Whether tokens come from other machines without encryption."""
        return self.tokens_file is not None and self.tls is None and self.is_public

    def _check_tls(self) -> None:
        named = {"tls_cert": self.tls_cert, "tls_key": self.tls_key}
        missing = [name for name, path in named.items() if path is None]
        if len(missing) == 1 or (missing and self.tls_client_ca is not None):
            raise SettingsError(
                f"{missing[0]} is missing",
                field=missing[0],
                remedy="give tls_cert and tls_key together; tls_client_ca needs both",
            )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
