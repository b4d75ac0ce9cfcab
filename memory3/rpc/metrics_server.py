"""A port that serves metrics and nothing else: ``GET /metrics``, and no word about the request.

The library's own server answers at every path. This one must not know what is measured.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from memory3.errors import PortInUseError

_PATH = "/metrics"
# A connection that says nothing for so long is closed.
_PATIENCE_S = 10.0


def serve_metrics(host: str, port: int, registry: CollectorRegistry) -> Callable[[], None]:
    """Serve a registry over HTTP.

    Args:
        host: The address to listen on.
        port: The port to listen on, greater than 0.
        registry: What to serve.

    Returns:
        A function that stops the server and waits for its thread.

    Raises:
        PortInUseError: The address cannot be listened on.
    """
    try:
        server = _Server(host, port, registry)
    except OSError as error:
        raise PortInUseError(
            f"cannot serve metrics on {host}:{port}: {error.strerror or error}",
            field="metrics_port",
            remedy="choose another port, or 0 for no metrics",
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


class _Server(ThreadingHTTPServer):
    """Listens, a thread for each request."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        self.address_family = AF_INET6 if ":" in host else AF_INET
        self.registry = registry
        super().__init__((host, port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A scraper that hung up is nobody's concern."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE_S

    def do_GET(self) -> None:
        if urlsplit(self.path).path != _PATH:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        encode, content_type = choose_encoder(self.headers.get("accept", ""))
        page = encode(self.server.registry)
        self._answer(HTTPStatus.OK, page, {"content-type": content_type})

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse with a status alone; what was sent is not repeated."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._answer(HTTPStatus.METHOD_NOT_ALLOWED, b"", {"allow": "GET"})
        else:
            self._answer(code, b"", {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        given = {**headers, "content-length": str(len(body)), "x-content-type-options": "nosniff"}
        for name, value in given.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing: scrapes come every few seconds."""
