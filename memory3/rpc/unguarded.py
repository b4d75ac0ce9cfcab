"""Health checks and reflection: answered whoever calls, however much there is to do.

Nothing is asked or counted here. Only bytes that are no message are refused as everywhere, and the
answers of a thread-pool server come from threads of their own.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from memory3.errors import Memory3Error
from memory3.rpc.status import abort_with, aio_abort_with
from memory3.rpc.undecodable import aio_checked_stream, checked, checked_stream, lenient

# Handlers are untyped in grpc's own interface: messages of any service pass through here.
_Behaviour = Callable[..., Any]
_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class UnguardedInterceptor(grpc.ServerInterceptor):
    """For a thread-pool server that has nothing but health.

    Args:
        probes: The threads that answer.
    """

    def __init__(self, probes: ThreadPoolExecutor) -> None:
        self._probes = probes

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: Any
    ) -> Any:
        """Refuse bytes that are no message."""
        handler = continuation(handler_call_details)
        return None if handler is None else unguarded(handler, self._probes)


class AioUnguardedInterceptor(grpc.aio.ServerInterceptor):
    """For an aio server that has nothing but health."""

    async def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: Any
    ) -> Any:
        """Refuse bytes that are no message."""
        handler = await continuation(handler_call_details)
        return None if handler is None else aio_unguarded(handler)


def behaviour_of(handler: Any) -> _Behaviour:
    """What a method's handler calls, whichever way it streams."""
    found: _Behaviour = next(filter(None, (getattr(handler, kind) for kind in _KINDS)))
    return found


def unguarded(handler: Any, probes: ThreadPoolExecutor) -> Any:
    """The handler of a thread-pool server's method that is not guarded."""
    behaviour = behaviour_of(handler)

    # gRPC asks the function itself how it wants to be called, and on which threads.
    @functools.wraps(behaviour)
    def single(request: Any, context: grpc.ServicerContext, *more: Any) -> Any:
        try:
            return behaviour(checked(request), context, *more)
        except Memory3Error as error:
            abort_with(context, error)

    @functools.wraps(behaviour)
    def stream(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from behaviour(checked_stream(requests), context)
        except Memory3Error as error:
            abort_with(context, error)

    answer: Any = stream if handler.request_streaming else single
    answer.experimental_thread_pool = probes
    return _answered_by(handler, answer)


def aio_unguarded(handler: Any) -> Any:
    """As ``unguarded``, for an aio server."""
    behaviour = behaviour_of(handler)

    async def single(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await behaviour(checked(request), context)
        except Memory3Error as error:
            await aio_abort_with(context, error)

    async def stream(
        requests: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        try:
            async for response in behaviour(aio_checked_stream(requests), context):
                yield response
        except Memory3Error as error:
            await aio_abort_with(context, error)

    return _answered_by(handler, stream if handler.request_streaming else single)


def _answered_by(handler: Any, answer: _Behaviour) -> Any:
    (kind,) = (kind for kind in _KINDS if getattr(handler, kind) is not None)
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(answer, lenient(handler.request_deserializer), handler.response_serializer)
