"""What happens around every call, whether a thread or an event loop answers it.

One guard belongs to one server: it gives each call its request id, lets it in or turns it away,
counts it, and turns whatever it raises into a typed error. The two kinds of interceptors only
carry this out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

import grpc
import structlog

from memory3.errors import InternalError, Memory3Error, UnsupportedError
from memory3.observability import tracing
from memory3.rpc.admission import Admission
from memory3.rpc.context import request_id_of, set_request_id
from memory3.rpc.health import Lifecycle
from memory3.rpc.logging import get_logger
from memory3.rpc.metrics import RpcMetrics
from memory3.rpc.security.authorizer import Authorizer, presented_token
from memory3.rpc.security.caller import set_caller
from memory3.rpc.security.roles import Identity
from memory3.rpc.status import from_rpc_error

_log = get_logger(__name__)
_level = logging.getLogger(__name__)


class Call:
    """One call being answered.

    Attributes:
        method: The full method path.
        request_id: The id given by the caller, or made here.
        code: The name of the status code it ended with.
        token: What the caller presented, not yet checked.
        identity: Who the caller is, once let in; None where the service asks for no tokens.
        span: Its part of the trace.
    """

    __slots__ = ("admitted", "code", "identity", "method", "request_id", "span", "started", "token")

    def __init__(
        self, method: str, request_id: str, span: tracing.Span, token: str | None = None
    ) -> None:
        self.method = method
        self.token = token
        self.identity: Identity | None = None
        self.request_id = request_id
        self.span = span
        self.code = "OK"
        self.started = time.perf_counter()
        self.admitted = False


class CallGuard:
    """Begins, admits, explains and ends calls.

    Args:
        lifecycle: Says whether the service is ready.
        admission: Says whether there is room.
        metrics: Counts.
        authorizer: Asks who calls; None lets everybody in.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        admission: Admission,
        metrics: RpcMetrics,
        authorizer: Authorizer | None = None,
    ) -> None:
        self._authorizer = authorizer
        self._lifecycle = lifecycle
        self._admission = admission
        self._metrics = metrics

    def begin(self, method: str, metadata: Iterable[Any] | None) -> Call:
        """Start a call and bind its request id and its span to this thread or task."""
        given = tuple(metadata or ())
        span = tracing.enter_call(method, given)
        call = Call(method, request_id_of(given), span, presented_token(given))
        set_caller(None, call.token)
        set_request_id(call.request_id)
        structlog.contextvars.bind_contextvars(request_id=call.request_id)
        if call.span.trace_id is not None:
            structlog.contextvars.bind_contextvars(trace_id=call.span.trace_id)
        call.span.set(request_id=call.request_id)
        self._metrics.running.labels(method).inc()
        return call

    def admit(self, call: Call) -> None:
        """Let a call in.

        Raises:
            UnauthenticatedError: The caller has no valid token.
            PermissionDeniedError: The caller may not call this method.
            LoadingError: The service is not ready.
            QuotaExceededError: The caller has used up its quota.
            QueueFullError: There is no room.
        """
        # First of all, so that strangers learn nothing and take no one's room.
        if self._authorizer is not None:
            identity = self._authorizer.identify(call.token)
            structlog.contextvars.bind_contextvars(identity=identity.name)
            self._authorizer.enter(identity, call.method)
            call.identity = identity
            set_caller(identity, call.token)
        self._lifecycle.check_ready()
        self._admission.enter(call.method)
        call.admitted = True

    def explain(self, call: Call, raised: Exception) -> Memory3Error:
        """The typed error for whatever a servicer raised; what it did not mean to raise is logged.

        The caller of a defect learns the request id and nothing else: the text of a foreign
        exception may hold paths or prompts.
        """
        error = self._typed(call, raised)
        call.code = error.code
        return error

    def end(self, call: Call) -> None:
        """Count a call out, however it ended.

        It stops running last: whoever sees that no call runs finds all of them counted.
        """
        if call.admitted:
            self._admission.leave(call.method)
        if self._authorizer is not None:
            if call.identity is not None:
                self._authorizer.leave(call.identity)
            self._metrics.count_identity(call.identity.name if call.identity else "", call.code)
            self._metrics.tokens_refused.set(self._authorizer.file.num_refused)
        self._metrics.requests.labels(call.method, call.code).inc()
        seconds = time.perf_counter() - call.started
        self._metrics.latency.labels(call.method).observe(seconds)
        # In an application that has not set up logs, structlog would write to standard output; and
        # a line that is dropped costs a twentieth of a refusal.
        if structlog.is_configured() and _level.isEnabledFor(logging.DEBUG):
            _log.debug("answered", method=call.method, code=call.code, seconds=round(seconds, 6))
        tracing.leave_call(call.span, call.code)
        self._metrics.running.labels(call.method).dec()
        structlog.contextvars.unbind_contextvars("request_id", "trace_id", "identity")
        set_request_id(None)
        set_caller(None, None)

    def _typed(self, call: Call, raised: Exception) -> Memory3Error:
        if isinstance(raised, Memory3Error):
            return raised
        if isinstance(raised, grpc.RpcError):
            return from_rpc_error(raised)
        if isinstance(raised, NotImplementedError):
            return UnsupportedError(f"{call.method} is not offered by this service")
        _log.error("a call failed by a defect", method=call.method, exc_info=raised)
        return InternalError(
            f"internal error in request {call.request_id}",
            remedy="look for the request id in the service's log",
            metadata={"request_id": call.request_id},
        )
