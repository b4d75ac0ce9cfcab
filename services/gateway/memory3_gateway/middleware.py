"""What happens around every request: its id, its caller's credentials, limits, counts, headers.

It is plain ASGI and not one of the framework's wrappers, which would hide from a handler that its
caller has left. It must not know bodies.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

import structlog
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memory3.errors import Memory3Error
from memory3.rpc.admission import Admission
from memory3.rpc.context import (
    AUTHORIZATION_KEY,
    REQUEST_ID_KEY,
    request_id_of,
    set_request_id,
)
from memory3.rpc.security.authorizer import Authorizer, presented_token
from memory3.rpc.security.caller import set_caller
from memory3_gateway.errors import (
    CLIENT_CLOSED,
    BodyTooLargeError,
    ForeignHostError,
    body_of,
    headers_of,
    status_of,
)
from memory3_gateway.metrics import GatewayMetrics

# Nothing from elsewhere, no script or style in the markup, nobody may frame it.
_SECURITY_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_SAFE_METHODS: Final = {"GET", "HEAD", "OPTIONS"}
_METHODS: Final = {*_SAFE_METHODS, "POST", "PUT", "DELETE", "PATCH"}
# Asked by addresses, by whoever runs it.
_PROBES: Final = ("/health", "/ready")
# Answered however much there is to do.
_EXEMPT: Final = (*_PROBES, "/page/")


class GatewayMiddleware:
    """Wraps the application.

    Args:
        app: The application.
        metrics: Counts requests.
        max_concurrent: The most requests worked on at once.
        max_body_bytes: The largest body.
        hosts: The names by which it may be called, lower case, without a port; None for any.
        authorizer: Asks who calls; None lets everybody in. What a caller may do is decided by the
            services, which get its token.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: GatewayMetrics,
        max_concurrent: int,
        max_body_bytes: int,
        hosts: Iterable[str] | None,
        authorizer: Authorizer | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._admission = Admission(max_concurrent)
        self._max_body_bytes = max_body_bytes
        self._hosts = None if hosts is None else frozenset(hosts)
        self._authorizer = authorizer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = request_id_of([(REQUEST_ID_KEY, headers.get(REQUEST_ID_KEY))])
        set_request_id(request_id)
        presented = (AUTHORIZATION_KEY, headers.get(AUTHORIZATION_KEY))
        token = presented_token([presented])
        set_caller(None, token)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        answer = _Answer(send, request_id)
        started = time.perf_counter()
        self._metrics.running.inc()
        try:
            limited = _Limited(receive, self._max_body_bytes)
            await self._admitted(scope, headers, token, limited, answer)
        finally:
            left = answer.status == CLIENT_CLOSED or scope.get("state", {}).get("left", False)
            self._metrics.disconnects.inc(left)
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            code = str(CLIENT_CLOSED if left else answer.status)
            self._metrics.requests.labels(route, method, code).inc()
            self._metrics.latency.labels(route).observe(time.perf_counter() - started)
            self._metrics.running.dec()
            structlog.contextvars.unbind_contextvars("request_id", "identity")

    async def _admitted(
        self, scope: Scope, headers: Headers, token: str | None, receive: _Limited, send: _Answer
    ) -> None:
        try:
            self._check_origin(scope, headers)
            self._check_caller(scope["path"], token)
            receive.check_length(headers)
            if scope["path"].startswith(_EXEMPT):
                await self._app(scope, receive, send)
                return
            self._admission.enter("http")
        except Memory3Error as error:
            response = JSONResponse(body_of(error), status_of(error), headers_of(error))
            await response(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            self._admission.leave("http")

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Refuse what a page of another site makes a person's browser send.

        Raises:
            ForeignHostError: The request is for another host, or of another site and not harmless.
        """
        host = _host_of(headers.get("host", ""))
        named = self._hosts is None or host in self._hosts
        if not (named or scope["path"] in _PROBES):
            raise ForeignHostError(
                f"{host[:100]!r} is none of the names of this gateway",
                remedy="call it by one of them, or add the name to MEMORY3_GATEWAY_ALLOWED_HOSTS",
            )
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if foreign and scope["method"] not in _SAFE_METHODS:
            raise ForeignHostError("a page of another site may not send this")

    def _check_caller(self, path: str, token: str | None) -> None:
        """Ask who calls; probes have no token, and the page asks a person for theirs.

        Raises:
            UnauthenticatedError: The caller has no valid token.
        """
        if self._authorizer is None or path == "/" or path.startswith(_EXEMPT):
            return
        try:
            identity = self._authorizer.identify(token)
        finally:
            self._metrics.tokens_refused.set(self._authorizer.file.num_refused)
        structlog.contextvars.bind_contextvars(identity=identity.name)


class _Limited:
    """Receives a body that may not be longer than a limit."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._most = most
        self._length = 0

    def check_length(self, headers: Headers) -> None:
        """Refuse a body that says itself that it is too long."""
        told = headers.get("content-length", "")
        if told.isdigit() and int(told) > self._most:
            raise self._too_large()

    async def __call__(self) -> Message:
        message = await self._receive()
        self._length += len(message.get("body", b""))
        if self._length > self._most:
            # The framework hands its own errors on from here, and hides others.
            raise HTTPException(413, self._too_large().message)
        return message

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(
            f"the body is above {self._most} bytes", remedy="send less, or in several requests"
        )


class _Answer:
    """Sends an answer with the headers that all have, and remembers its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 500

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID_KEY] = self._request_id
            for name, value in _SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


def _host_of(header: str) -> str:
    """The name in a Host header, without its port."""
    if header.startswith("["):
        return header.partition("]")[0].removeprefix("[").lower()
    return header.partition(":")[0].lower()
