"""One listening socket with an application behind it, over HTTP or HTTPS.

It must not know what the application answers, nor signals.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from memory3.errors import PortInUseError
from memory3.rpc.security.tls import ServerTls

_BACKLOG = 512


class HttpServer(uvicorn.Server):
    """A server that has its port from the beginning, and leaves signals to the service.

    Args:
        app: What answers.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        grace_s: Seconds that answers under way may take to end, once it leaves.
        tls: The certificate to show; None for plaintext.
        field: The setting that the port comes from.

    Raises:
        PortInUseError: The address cannot be listened on.
        SettingsError: The certificate cannot be used.
    """

    def __init__(
        self,
        app: FastAPI,
        host: str,
        port: int,
        *,
        grace_s: float,
        tls: ServerTls | None = None,
        field: str = "port",
    ) -> None:
        secure: dict[str, Any] = {}
        if tls is not None:
            context = tls.context()

            def handed(*_: object) -> ssl.SSLContext:
                return context

            secure["ssl_context_factory"] = handed
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                http="h11",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=max(1, round(grace_s)),
                **secure,
            )
        )
        self._socket = _bind(host, port, field)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        found: int = self._socket.getsockname()[1]
        return found

    async def serve_here(self) -> None:
        """Serve until ``should_exit``."""
        await self.serve(sockets=[self._socket])

    def close(self) -> None:
        """Let go of the port; for one that never served."""
        self._socket.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none: the service has more to do at one."""
        yield


def _bind(host: str, port: int, field: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP: otherwise asyncio leaves Nagle's algorithm on, 40 ms for each small answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise PortInUseError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            field=field,
            remedy="stop what listens there, or choose another port (0 takes a free one)",
        ) from error
    return listener
