"""Health checks and reflection: answered whoever calls, however much there is to do.

Nothing is asked or counted here. Only bytes that are no message are refused as everywhere, and the
answers of a thread-pool server come from threads of their own, which no caller can hold.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc

from memory3.errors import Memory3Error
from memory3.rpc.status import abort_with, aio_abort_with
from memory3.rpc.undecodable import aio_checked_stream, checked, checked_stream, lenient, only

# Handlers are untyped in grpc's own interface: messages of any service pass through here.
_Behaviour = Callable[..., Any]
_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
_THREADS, _MOST_WAITING, _STREAM_THREADS = 24, 20, 2


class Probes:
    """The threads that answer unguarded calls, and the calls whose message has not come yet.

    A check's message comes with it. Where so many are still waited for that others could not be,
    the oldest gives way, so that those who send checks and no messages hold up nobody.
    """

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="health")
        # A stream of reflection holds its thread for as long as its caller likes.
        self.stream_threads = ThreadPoolExecutor(_STREAM_THREADS, thread_name_prefix="reflection")
        self._lock = threading.Lock()
        self._waiting: deque[grpc.ServicerContext] = deque()

    def take(self, requests: Any, context: grpc.ServicerContext) -> Any:
        """The message of a call.

        Raises:
            InvalidArgumentError: There is none.
            RequestCancelledError: The caller went away, or had to give way.
        """
        with self._lock:
            self._waiting.append(context)
            surplus = self._waiting.popleft() if len(self._waiting) > _MOST_WAITING else None
        if surplus is not None:
            surplus.cancel()
        try:
            return only(requests)
        finally:
            with self._lock, suppress(ValueError):
                self._waiting.remove(context)


class UnguardedInterceptor(grpc.ServerInterceptor):
    """For a thread-pool server that has nothing but health.

    Args:
        probes: The threads that answer.
    """

    def __init__(self, probes: Probes) -> None:
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


def unguarded(handler: Any, probes: Probes) -> Any:
    """The handler of a thread-pool server's method that is not guarded."""
    behaviour = behaviour_of(handler)

    # gRPC asks the function itself how it wants to be called, and on which threads.
    @functools.wraps(behaviour)
    def single(requests: Any, context: grpc.ServicerContext, *more: Any) -> Any:
        try:
            return behaviour(probes.take(requests, context), context, *more)
        except Memory3Error as error:
            abort_with(context, error)

    @functools.wraps(behaviour)
    def stream(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from behaviour(checked_stream(requests), context)
        except Memory3Error as error:
            abort_with(context, error)

    answer: Any = stream if handler.request_streaming else single
    threads = probes.stream_threads if handler.request_streaming else probes.threads
    answer.experimental_thread_pool = threads
    # As for guarded calls: gRPC would have a thread wait for the one message itself.
    kind = "stream_stream" if handler.response_streaming else "stream_unary"
    return _answered_by(handler, answer, kind)


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

    (kind,) = (kind for kind in _KINDS if getattr(handler, kind) is not None)
    return _answered_by(handler, stream if handler.request_streaming else single, kind)


def _answered_by(handler: Any, answer: _Behaviour, kind: str) -> Any:
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(answer, lenient(handler.request_deserializer), handler.response_serializer)
