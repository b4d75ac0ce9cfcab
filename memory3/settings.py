"""Settings that every service has, from options first, environment variables second, defaults last.

It must not know any one service: each subclasses ``ServiceSettings`` in its own ``settings.py``,
sets its prefix and adds its fields.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from memory3.errors import SettingsError

_MAX_SHOWN_VALUE = 80
# A field with one of these in its name may hold a credential: its value is never repeated.
_SECRET_PARTS = ("url", "password", "token", "secret", "key")


class ServiceSettings(BaseSettings):
    """The settings of one service; subclasses set ``service`` and an environment prefix.

    A subclass reads::

        class EncoderSettings(ServiceSettings):
            model_config = SettingsConfigDict(env_prefix="MEMORY3_ENCODER_")
            service = "encoder"
            port: int = Field(7302, ge=0, le=65535)

    and is made with ``EncoderSettings.load(port=option_or_none)``.
    """

    model_config = SettingsConfigDict(extra="forbid", frozen=True, validate_default=True)

    service: ClassVar[str] = "service"

    host: str = Field("127.0.0.1", min_length=1, description="The address to listen on.")
    port: int = Field(0, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    port_file: Path | None = Field(
        None, description="Where to write the port once it is bound; empty for nowhere."
    )
    insecure: bool = Field(
        False,
        description="Accept a host that other machines reach although callers need neither token "
        "nor certificate: the network must keep strangers out.",
    )
    tokens_file: Path | None = Field(
        None, description="The file of accepted bearer tokens; empty asks for none."
    )
    tls_cert: Path | None = Field(
        None, description="The chain of the server's certificate, PEM; empty serves plaintext."
    )
    tls_key: Path | None = Field(None, description="The key of the certificate, PEM.")
    tls_client_ca: Path | None = Field(
        None, description="Who must have signed clients' certificates, PEM; empty asks for none."
    )
    health_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="A plaintext port that serves health alone, for probes that have no "
        "certificate; 0 for none.",
    )
    metrics_host: str = Field("127.0.0.1", min_length=1, description="The address for Prometheus.")
    metrics_port: int = Field(
        0, ge=0, le=65535, description="The port for Prometheus; 0 for no metrics."
    )
    max_concurrent: int = Field(64, ge=1, le=4096, description="The most calls worked on at once.")
    max_connection_age_s: float = Field(
        0.0,
        ge=0,
        description="Close connections after so many seconds, so that clients find new replicas; "
        "0 for never.",
    )
    drain_seconds: float = Field(
        0.0, ge=0, le=3600, description="How long to go on answering after a signal to stop."
    )
    grace_seconds: float = Field(
        10.0, ge=0, le=3600, description="How long calls in flight may take to end after that."
    )
    reflection: bool = Field(False, description="Serve the protocol's own description.")
    trace_endpoint: str = Field(
        "",
        description="Where spans are sent: http://HOST:PORT of a collector that speaks OTLP over "
        "gRPC; empty for that of OTEL_EXPORTER_OTLP_ENDPOINT, else for no tracing.",
    )
    trace_ratio: float | None = Field(
        None,
        ge=0,
        le=1,
        description="The share of traces begun here that is kept, 0 to 1; empty for what "
        "OTEL_TRACES_SAMPLER says, else all. A caller's decision is kept to.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe kind of log line to write."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="How to write logs; auto is console on a terminal, JSON elsewhere."
    )

    @classmethod
    def load(cls, **options: Any) -> Self:
        """The settings, with every fault told as the variable to change.

        Args:
            options: What the command line gave; None stands for an option that was not given.

        Raises:
            SettingsError: A value is missing or not acceptable. ``field`` is the setting; the
                message names the environment variable that sets it.
        """
        given = {name: value for name, value in options.items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            raise _explain(cls, error) from error

    @classmethod
    def unknown_variables(cls) -> dict[str, str | None]:
        """Variables with this service's prefix that are none of its settings.

        Returns:
            Each with the variable that it is most like; None where it is like none.
        """
        prefix = str(cls.model_config.get("env_prefix", "")).upper()
        # Compared without the prefix, which all have in common.
        known = {field.upper(): cls.variable(field) for field in cls.model_fields}
        unknown: dict[str, str | None] = {}
        for name in sorted(os.environ):
            rest = name.upper().removeprefix(prefix)
            if prefix and rest != name.upper() and rest not in known:
                nearest = get_close_matches(rest, known, n=1)
                unknown[name] = known[nearest[0]] if nearest else None
        return unknown

    @classmethod
    def variable(cls, field: str) -> str:
        """The environment variable that sets a field."""
        return f"{cls.model_config.get('env_prefix', '')}{field}".upper()


class PeerTlsSettings(ServiceSettings):
    """The settings of a service that calls others: what it connects with."""

    peer_tls_ca: Path | None = Field(
        None,
        description="Who must have signed the called service's certificate, PEM; empty "
        "calls in plaintext.",
    )
    peer_tls_cert: Path | None = Field(
        None, description="The certificate to show the called service, PEM."
    )
    peer_tls_key: Path | None = Field(None, description="The key of that certificate, PEM.")
    peer_tls_name: str | None = Field(
        None, description="The name in the called service's certificate; empty for its address's."
    )


class PeerSettings(PeerTlsSettings):
    """As before, with a token of the service's own."""

    peer_token_file: Path | None = Field(
        None, description="The file with the token to show the called service."
    )


def _explain(settings: type[ServiceSettings], error: ValidationError) -> SettingsError:
    first = error.errors(include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else "settings"
    variable = settings.variable(field)
    option = f"--{field.replace('_', '-')}"
    if first["type"] == "missing":
        return SettingsError(
            f"{settings.service}: {field} is not set",
            field=field,
            remedy=f"give {option}, or set {variable}",
            metadata={"variable": variable},
        )
    if first["type"] == "extra_forbidden":
        return SettingsError(
            f"{settings.service} has no setting {field}",
            field=field,
            remedy=f"use one of {', '.join(sorted(settings.model_fields))}",
            metadata={"variable": variable},
        )
    return SettingsError(
        f"{settings.service}: {field} cannot be {_shown(field, first['input'])}: "
        f"{first['msg'][:1].lower()}{first['msg'][1:]}",
        field=field,
        remedy=f"change {option} or {variable}",
        metadata={"variable": variable},
    )


def _shown(field: str, value: object) -> str:
    if any(part in field for part in _SECRET_PARTS):
        return "what it was given"
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN_VALUE else f"{text[:_MAX_SHOWN_VALUE]}…"
