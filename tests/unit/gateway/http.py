"""Plain HTTP for tests: a status, headers and a body, and nothing hidden."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def call(
    method: str,
    url: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
    trust: ssl.SSLContext | None = None,
) -> Answer:
    """One request; a body that is not bytes goes as JSON, ``trust`` is for HTTPS."""
    parts = urlsplit(url)
    at = (parts.hostname or "", parts.port)
    connection = (
        http.client.HTTPConnection(*at, timeout=60)
        if parts.scheme == "http"
        else http.client.HTTPSConnection(*at, timeout=60, context=trust)
    )
    sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    given = {
        **({"content-type": "application/json"} if body is not None else {}),
        **(headers or {}),
    }
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, path, sent, given)
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, told, response.read())
    finally:
        connection.close()
