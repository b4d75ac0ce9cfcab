"""How a client shows who it is and whom it trusts: certificates and a token, from files.

It must not know servers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc

from memory3.errors import SettingsError
from memory3.rpc.security.tls import read_pem
from memory3.settings import PeerSettings, PeerTlsSettings


@dataclass(frozen=True, repr=False)
class Outgoing:
    """What a client connects and calls with.

    Attributes:
        tls_ca: Who must have signed the server's certificate, PEM; None for plaintext.
        tls_cert: The client's own chain, for mutual TLS.
        tls_key: Its key.
        tls_name: The name that the server's certificate must have; None for the address's.
        token_file: Holds a token; read at every call, so that it can be replaced.
        token: A token; goes before the file.
    """

    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_name: str | None = None
    token_file: Path | None = None
    token: str | None = None

    @classmethod
    def from_environment(
        cls, token: str | None = None, environment: Mapping[str, str] | None = None
    ) -> Self:
        """What MEMORY3_TLS_CA, _TLS_CERT, _TLS_KEY, _TLS_NAME, _TOKEN and _TOKEN_FILE say.

        Args:
            token: A token; goes before those of the environment.
            environment: The variables; None for this process's.
        """
        variables = os.environ if environment is None else environment

        def path(name: str) -> Path | None:
            value = variables.get(f"MEMORY3_{name}")
            return Path(value) if value else None

        return cls(
            tls_ca=path("TLS_CA"),
            tls_cert=path("TLS_CERT"),
            tls_key=path("TLS_KEY"),
            tls_name=variables.get("MEMORY3_TLS_NAME") or None,
            token_file=path("TOKEN_FILE"),
            token=token or variables.get("MEMORY3_TOKEN") or None,
        )

    @classmethod
    def of_peer(cls, settings: PeerTlsSettings) -> Self:
        """What the settings of a service say of calls to the next one."""
        return cls(
            tls_ca=settings.peer_tls_ca,
            tls_cert=settings.peer_tls_cert,
            tls_key=settings.peer_tls_key,
            tls_name=settings.peer_tls_name,
            # A service without a token of its own hands on its callers' and nothing else.
            token_file=settings.peer_token_file if isinstance(settings, PeerSettings) else None,
        )

    def credentials(self) -> grpc.ChannelCredentials | None:
        """For TLS; None for plaintext.

        Raises:
            SettingsError: A file cannot be used, or one of certificate and key is missing.
        """
        if self.tls_ca is None:
            if self.tls_cert or self.tls_key:
                raise _incomplete("tls_ca")
            return None
        if (self.tls_cert is None) != (self.tls_key is None):
            raise _incomplete("tls_key" if self.tls_key is None else "tls_cert")
        return grpc.ssl_channel_credentials(
            read_pem(self.tls_ca, "tls_ca", "CERTIFICATE"),
            read_pem(self.tls_key, "tls_key", "PRIVATE KEY") if self.tls_key else None,
            read_pem(self.tls_cert, "tls_cert", "CERTIFICATE") if self.tls_cert else None,
        )

    def bearer(self) -> str | None:
        """The token to send now; None for none.

        Raises:
            SettingsError: The file cannot be read, or is no token.
        """
        if self.token is not None or self.token_file is None:
            return self.token
        try:
            token = self.token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                "the file of the token cannot be read",
                field="token_file",
                remedy="give a file with one token that this process may read",
            ) from error
        if not (token and token.isascii() and token.isprintable()):
            raise SettingsError("the file of the token holds none", field="token_file")
        return token


def _incomplete(field: str) -> SettingsError:
    return SettingsError(
        f"{field} is missing", field=field, remedy="give tls_ca, and tls_cert with tls_key"
    )
