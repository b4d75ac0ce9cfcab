"""How a server listens, limits and leaves; misuse fails here, naming the field."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from prometheus_client import REGISTRY, CollectorRegistry

from memory3.errors import InvalidArgumentError, SettingsError
from memory3.settings import ServiceSettings


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How a server listens, limits and leaves.

    Attributes:
        service: The full service name, such as ``memory3.v1.EncoderService``.
        host: The address to listen on; another than loopback needs ``allow_public``.
        port: The port to listen on; 0 takes a free one (``RpcServer.port`` says which).
        port_file: Where to write the port once bound, for whoever started this process.
        allow_public: Accept a host that other machines reach. There is no authentication, so the
            network must keep strangers out.
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
        registry: Where metrics are registered and served from.
    """

    service: str
    host: str = "127.0.0.1"
    port: int = 0
    port_file: Path | None = None
    allow_public: bool = False
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    max_concurrent: int = 64
    method_limits: Mapping[str, int] = field(default_factory=dict)
    max_message_bytes: int = 64 * 1024 * 1024
    max_connection_age_s: float = 0.0
    drain_seconds: float = 0.0
    grace_seconds: float = 10.0
    reflection: bool = False
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
        for name in ("port", "metrics_port"):
            if not 0 <= getattr(self, name) <= 65535:
                raise InvalidArgumentError(
                    f"{getattr(self, name)} is not a port", field=name, remedy="use 0 to 65535"
                )
        if not self.allow_public and not _is_loopback(self.host):
            raise SettingsError(
                f"{self.host} can be reached from other machines and there is no authentication",
                field="host",
                remedy="listen on 127.0.0.1, or allow it with allow_public where the network "
                "keeps strangers out",
            )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
