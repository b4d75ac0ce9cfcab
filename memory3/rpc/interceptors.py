"""The server interceptors, one for thread-pool servers and one for aio servers.

Both do the same by the same ``CallGuard``: request id in and out, admission, metrics, typed errors.
Health checks and reflection pass untouched.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc

from memory3.rpc.admission import is_exempt
from memory3.rpc.context import REQUEST_ID_KEY
from memory3.rpc.guard import Call, CallGuard
from memory3.rpc.security.authorizer import aio_check_requests, check_request, check_requests
from memory3.rpc.status import abort_with, aio_abort_with
from memory3.rpc.undecodable import aio_checked_stream, checked, checked_stream, lenient

# Handlers are untyped in grpc's own interface: messages of any service pass through here.
_Handler = Any
_Behaviour = Callable[[Any, Any], Any]
_Permission = Callable[[Call, Any], Any]


class ThreadInterceptor(grpc.ServerInterceptor):
    """Guards the calls of a thread-pool server."""

    def __init__(self, guard: CallGuard) -> None:
        self._guard = guard

    def intercept_service(
        self, continuation: Callable[[Any], _Handler], handler_call_details: Any
    ) -> _Handler:
        """Wrap the handler of a method in the guard."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or is_exempt(method):
            return handler
        wrap = self._stream if handler.response_streaming else self._single
        behaviour = _checking(handler, checked_stream)
        return _rewrap(handler, wrap(behaviour, method, _permission(handler, check_requests)))

    def _single(self, behaviour: _Behaviour, method: str, allow: _Permission) -> _Behaviour:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            call = self._begin(method, context)
            try:
                self._guard.admit(call)
                return behaviour(allow(call, request), context)
            except Exception as error:
                self._fail(call, context, error)
            finally:
                self._guard.end(call)

        return answer

    def _stream(self, behaviour: _Behaviour, method: str, allow: _Permission) -> _Behaviour:
        def answer(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            call = self._begin(method, context)
            try:
                self._guard.admit(call)
                yield from behaviour(allow(call, request), context)
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

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[_Handler]], handler_call_details: Any
    ) -> _Handler:
        """Wrap the handler of a method in the guard."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or is_exempt(method):
            return handler
        wrap = self._stream if handler.response_streaming else self._single
        behaviour = _checking(handler, aio_checked_stream)
        return _rewrap(handler, wrap(behaviour, method, _permission(handler, aio_check_requests)))

    def _single(self, behaviour: _Behaviour, method: str, allow: _Permission) -> _Behaviour:
        async def answer(request: Any, context: Any) -> Any:
            call = self._begin(method, context)
            try:
                self._guard.admit(call)
                return await behaviour(allow(call, request), context)
            except asyncio.CancelledError:
                call.code = grpc.StatusCode.CANCELLED.name
                raise
            except Exception as error:
                await self._fail(call, context, error)
            finally:
                self._guard.end(call)

        return answer

    def _stream(self, behaviour: _Behaviour, method: str, allow: _Permission) -> _Behaviour:
        async def answer(request: Any, context: Any) -> AsyncIterator[Any]:
            call = self._begin(method, context)
            try:
                self._guard.admit(call)
                responses = behaviour(allow(call, request), context)
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


@contextlib.asynccontextmanager
async def _closing(responses: Any) -> AsyncIterator[None]:
    try:
        yield
    finally:
        if hasattr(responses, "aclose"):
            await responses.aclose()


def _checking(handler: _Handler, check_stream: Callable[[Any], Any]) -> _Behaviour:
    """The behaviour of a handler, given only requests that could be read."""
    kinds = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
    found: _Behaviour = next(kind for kind in kinds if kind is not None)
    check = check_stream if handler.request_streaming else checked
    return lambda given, context: found(check(given), context)


def _permission(handler: _Handler, check_stream: Callable[..., Any]) -> _Permission:
    """Gives on the requests of a call that its caller may make; all where nobody is asked."""
    check = check_stream if handler.request_streaming else check_request

    def allow(call: Call, given: Any) -> Any:
        return given if call.identity is None else check(call.identity, call.method, given)

    return allow


def _rewrap(handler: _Handler, behaviour: _Behaviour) -> _Handler:
    makers = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    return makers[handler.request_streaming, handler.response_streaming](
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
