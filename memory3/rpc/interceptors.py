"""The server interceptors, one for thread-pool servers and one for aio servers.

Both do the same by the same ``CallGuard``: request id in and out, admission, metrics, typed errors.
Health checks and reflection pass unguarded.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc

from memory3.errors import InvalidArgumentError, RequestCancelledError
from memory3.rpc.admission import is_exempt
from memory3.rpc.context import REQUEST_ID_KEY
from memory3.rpc.guard import Call, CallGuard
from memory3.rpc.security.authorizer import aio_check_requests, check_request, check_requests
from memory3.rpc.status import abort_with, aio_abort_with
from memory3.rpc.undecodable import aio_checked_stream, checked, checked_stream, lenient, only
from memory3.rpc.unguarded import Probes, aio_unguarded, behaviour_of, unguarded

# Handlers are untyped in grpc's own interface: messages of any service pass through here.
_Handler = Any
_Behaviour = Callable[[Any, Any], Any]
_Take = Callable[[Call, Any], Any]

_TOLD_WITHIN_S = 0.2


class ThreadInterceptor(grpc.ServerInterceptor):
    """Guards the calls of a thread-pool server.

    gRPC lets a call that sends one message hold a thread until that message has come, which a
    caller can put off for ever, and asks nobody before. So to gRPC all methods are of streamed
    requests here: a call is admitted first, then its message is waited for.

    Args:
        guard: Guards them.
        probes: Answer what is unguarded.
    """

    def __init__(self, guard: CallGuard, probes: Probes) -> None:
        self._guard = guard
        self._probes = probes
        self._wrapped = _Wrapped()

    def intercept_service(
        self, continuation: Callable[[Any], _Handler], handler_call_details: Any
    ) -> _Handler:
        """Wrap the handler of a method in the guard."""
        handler = continuation(handler_call_details)
        return self._wrapped.get(handler_call_details.method, handler, self._wrap)

    def _wrap(self, method: str, handler: _Handler) -> _Handler:
        if is_exempt(method):
            return unguarded(handler, self._probes)
        wrap = self._stream if handler.response_streaming else self._single
        take = _taking(handler, checked_stream if handler.request_streaming else only)
        return _rewrap(handler, wrap(behaviour_of(handler), method, take), request_streaming=True)

    def _single(self, behaviour: _Behaviour, method: str, take: _Take) -> _Behaviour:
        def answer(requests: Any, context: grpc.ServicerContext) -> Any:
            call = self._begin(method, context)
            try:
                self._guard.admit(call)
                return behaviour(take(call, requests), context)
            except InvalidArgumentError as error:
                # To grpc's request iterator a cancelled call may look like one without a message.
                gone = RequestCancelledError("the caller is gone")
                left = error.field == "request" and _has_left(context)
                self._fail(call, context, gone if left else error)
            except Exception as error:
                self._fail(call, context, error)
            finally:
                self._guard.end(call)

        return answer

    def _stream(self, behaviour: _Behaviour, method: str, take: _Take) -> _Behaviour:
        def answer(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            call = self._begin(method, context)
            try:
                self._guard.admit(call)
                yield from behaviour(take(call, requests), context)
                # To grpc's request iterator a cancelled stream may look like one that has ended.
                if not context.is_active():
                    call.code = grpc.StatusCode.CANCELLED.name
            except GeneratorExit:
                call.code = grpc.StatusCode.CANCELLED.name
                raise
            except Exception as error:
                self._fail(call, context, error)
            finally:
                self._guard.end(call)

        return answer

    def _begin(self, method: str, context: grpc.ServicerContext) -> Call:
        call = self._guard.begin(method, context.invocation_metadata())
        context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id),))
        return call

    def _fail(self, call: Call, context: grpc.ServicerContext, error: Exception) -> None:
        aborted_with = _code_name(context)
        if aborted_with != "OK":
            # context.abort() was called: its exception is a signal to grpc, not an error.
            call.code = aborted_with
            raise error
        abort_with(context, self._guard.explain(call, error))


class AioInterceptor(grpc.aio.ServerInterceptor):
    """Guards the calls of an aio server."""

    def __init__(self, guard: CallGuard) -> None:
        self._guard = guard
        self._wrapped = _Wrapped()

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[_Handler]], handler_call_details: Any
    ) -> _Handler:
        """Wrap the handler of a method in the guard."""
        handler = await continuation(handler_call_details)
        return self._wrapped.get(handler_call_details.method, handler, self._wrap)

    def _wrap(self, method: str, handler: _Handler) -> _Handler:
        if is_exempt(method):
            return aio_unguarded(handler)
        wrap = self._stream if handler.response_streaming else self._single
        take = _taking(handler, aio_checked_stream if handler.request_streaming else checked)
        return _rewrap(handler, wrap(behaviour_of(handler), method, take))

    def _single(self, behaviour: _Behaviour, method: str, take: _Take) -> _Behaviour:
        async def answer(request: Any, context: Any) -> Any:
            call = self._begin(method, context)
            try:
                self._guard.admit(call)
                return await behaviour(take(call, request), context)
            except asyncio.CancelledError:
                call.code = grpc.StatusCode.CANCELLED.name
                raise
            except Exception as error:
                await self._fail(call, context, error)
            finally:
                self._guard.end(call)

        return answer

    def _stream(self, behaviour: _Behaviour, method: str, take: _Take) -> _Behaviour:
        async def answer(request: Any, context: Any) -> AsyncIterator[Any]:
            call = self._begin(method, context)
            try:
                self._guard.admit(call)
                responses = behaviour(take(call, request), context)
                if hasattr(responses, "__aiter__"):
                    # Closed here and now, so that a cancelled call frees what it holds at once.
                    async with _closing(responses):
                        async for response in responses:
                            yield response
                else:
                    await responses
            except (asyncio.CancelledError, GeneratorExit):
                call.code = grpc.StatusCode.CANCELLED.name
                raise
            except Exception as error:
                await self._fail(call, context, error)
            finally:
                self._guard.end(call)

        return answer

    def _begin(self, method: str, context: Any) -> Call:
        call = self._guard.begin(method, context.invocation_metadata())
        context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id),))
        return call

    async def _fail(self, call: Call, context: Any, error: Exception) -> None:
        if isinstance(error, grpc.aio.AbortError):
            call.code = _code_name(context)
            raise error
        await aio_abort_with(context, self._guard.explain(call, error))


class _Wrapped:
    """The handlers of a server, each wrapped at its first call and not for every call."""

    def __init__(self) -> None:
        self._handlers: dict[str, tuple[_Handler, _Handler]] = {}

    def get(
        self, method: str, handler: _Handler, wrap: Callable[[str, _Handler], _Handler]
    ) -> _Handler:
        """The wrapped handler of a method; None where the server has no such method."""
        if handler is None:
            return None
        plain, wrapped = self._handlers.get(method, (None, None))
        if plain is not handler:
            wrapped = wrap(method, handler)
            self._handlers[method] = handler, wrapped
        return wrapped


@contextlib.asynccontextmanager
async def _closing(responses: Any) -> AsyncIterator[None]:
    try:
        yield
    finally:
        if hasattr(responses, "aclose"):
            await responses.aclose()


def _taking(handler: _Handler, read: Callable[[Any], Any]) -> _Take:
    """Takes the request or requests of a call: read first, then asked whether its caller may."""
    check: Callable[..., Any] = check_request
    if handler.request_streaming:
        check = aio_check_requests if read is aio_checked_stream else check_requests

    def take(call: Call, given: Any) -> Any:
        taken = read(given)
        return taken if call.identity is None else check(call.identity, call.method, taken)

    return take


def _has_left(context: grpc.ServicerContext) -> bool:
    """Whether the caller has cancelled; gRPC tells a moment after it has ended the requests."""
    left = threading.Event()
    return not context.add_callback(left.set) or left.wait(_TOLD_WITHIN_S)


def _rewrap(
    handler: _Handler, behaviour: _Behaviour, *, request_streaming: bool | None = None
) -> _Handler:
    makers = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    streaming = handler.request_streaming if request_streaming is None else request_streaming
    return makers[streaming, handler.response_streaming](
        behaviour,
        request_deserializer=lenient(handler.request_deserializer),
        response_serializer=handler.response_serializer,
    )


def _code_name(context: Any) -> str:
    """The name of the code a context was given; OK where it was given none."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    return next((known.name for known in grpc.StatusCode if known.value[0] == code), "OK")
