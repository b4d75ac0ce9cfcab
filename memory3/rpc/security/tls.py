"""Certificates: a server's, read again when they change, and what a client trusts and shows.

It must not know settings of any one service. Keys never appear in messages.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from memory3.errors import SettingsError
from memory3.rpc.logging import get_logger

_log = get_logger(__name__)


def read_pem(path: Path, field: str, kind: str) -> bytes:
    """A PEM file.

    Args:
        path: The file.
        field: The setting that names it.
        kind: What must be in it: ``CERTIFICATE`` or ``PRIVATE KEY``.

    Raises:
        SettingsError: It cannot be read, or holds nothing of the kind.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"the file of {field} cannot be read: {error.strerror}",
            field=field,
            remedy="give a PEM file that this process may read",
        ) from error
    if b"-----BEGIN " not in content or f"{kind}-----".encode() not in content:
        raise SettingsError(
            f"the file of {field} holds no {kind.lower()}", field=field, remedy="give a PEM file"
        )
    return content


@dataclass(frozen=True)
class ServerTls:
    """A server's certificate.

    Attributes:
        cert: Its chain, PEM.
        key: Its key, PEM.
        client_ca: Who must have signed the certificates of clients; None asks for none.
    """

    cert: Path
    key: Path
    client_ca: Path | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that use changed files for the next connection, without a restart.

        Raises:
            SettingsError: A file cannot be used.
        """
        content = self._read()
        current = [content]

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            try:
                content = self._read()
                if content == current[0]:
                    return None
                configuration = _configuration(content)
            except Exception as error:
                _log.error("a new certificate is not used", why=type(error).__name__)
                return None
            current[0] = content
            _log.info("certificate read again")
            return configuration

        return grpc.dynamic_ssl_server_credentials(
            _configuration(content),
            fetch,  # type: ignore[arg-type]  # None is grpc's word for: as before
            require_client_authentication=self.client_ca is not None,
        )

    def context(self) -> ssl.SSLContext:
        """The same for a server that is not gRPC's, such as one of HTTP.

        Raises:
            SettingsError: A file cannot be used.
        """
        content = self._read()
        current = [(content, self._fresh_context())]

        def renew(connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
            try:
                content = self._read()
                if content != current[0][0]:
                    current[0] = (content, self._fresh_context())
                    _log.info("certificate read again")
            except Exception as error:
                _log.error("a new certificate is not used", why=type(error).__name__)
            connection.context = current[0][1]

        first = current[0][1]
        # Called in every handshake, also where the client names no server.
        first.sni_callback = renew
        return first

    def _fresh_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self.cert, self.key, _no_password)
        if self.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.client_ca)
        return context

    def _read(self) -> tuple[bytes, bytes, bytes | None]:
        authority = self.client_ca
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                self.cert, self.key, _no_password
            )
        except ssl.SSLError as error:
            raise SettingsError(
                "the certificate and the key do not belong together, or one is damaged",
                field="tls_cert",
                remedy="give tls_cert and tls_key as PEM, the key without a password",
            ) from error
        except OSError:
            pass  # Told below, by the name of the setting.
        return (
            read_pem(self.key, "tls_key", "PRIVATE KEY"),
            read_pem(self.cert, "tls_cert", "CERTIFICATE"),
            read_pem(authority, "tls_client_ca", "CERTIFICATE") if authority else None,
        )


def _no_password() -> str:
    return ""


def _configuration(
    content: tuple[bytes, bytes, bytes | None],
) -> grpc.ServerCertificateConfiguration:
    key, cert, authority = content
    return grpc.ssl_server_certificate_configuration([(key, cert)], authority)
