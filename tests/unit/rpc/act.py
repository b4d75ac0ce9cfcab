"""A small service for tests of ``memory3.rpc``: each request is a command to carry out.

say:TEXT      answer with TEXT            raise:REASON  raise that typed error
crash         raise a foreign exception   abort         context.abort with ABORTED
missing       raise NotImplementedError   wait          answer once ``gate`` is opened
downstream    let a foreign RpcError out  id            answer with the request's id
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc

from memory3.errors import ERRORS_BY_REASON
from memory3.rpc.context import current_request_id

SERVICE = "memory3.test.ActService"
SECRET = "/secret/path/of/the/server"


def details_for(reason: str) -> dict[str, Any]:
    """What every raised error carries, so that a test can compare it at the other end."""
    return {
        "message": f"because of {reason} – naïve",
        "field": "command",
        "remedy": "send another",
        "metadata": {"expected": "a", "actual": "b"},
        "retry_after_s": 1.5,
    }


class DownstreamError(grpc.RpcError):
    """What a call to another service leaves when nobody there is one of ours."""

    def code(self) -> grpc.StatusCode:
        """As a call has it."""
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        """As a call has it."""
        return "connection refused"


def _carry_out(command: str) -> str:
    verb, _, rest = command.partition(":")
    rest = rest.rstrip("\0")
    if verb == "raise":
        details = details_for(rest)
        raise ERRORS_BY_REASON[rest](details.pop("message"), **details)
    if verb == "crash":
        raise KeyError(SECRET)
    if verb == "missing":
        raise NotImplementedError
    if verb == "downstream":
        raise DownstreamError
    return current_request_id() or "none" if verb == "id" else rest


class ActServicer:
    """Carries commands out on threads."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.closed = threading.Event()

    def Act(self, request: str, context: grpc.ServicerContext) -> str:
        """One command, one answer."""
        if request == "abort":
            context.abort(grpc.StatusCode.ABORTED, "by hand")
        if request == "wait":
            self.waiting.release()
            assert self.gate.wait(30)
        return _carry_out(request)

    def ActMany(self, request: str, context: grpc.ServicerContext) -> Iterator[str]:
        """An answer before the command, and one after."""
        try:
            yield "before"
            yield self.Act(request, context)
        finally:
            self.closed.set()

    def ActOn(self, requests: Iterator[str], context: grpc.ServicerContext) -> str:
        """The answers to many commands in one."""
        return ",".join(self.Act(request, context) for request in requests)


class AioActServicer:
    """Carries commands out on an event loop."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.waiting = asyncio.Semaphore(0)
        self.closed = asyncio.Event()

    async def Act(self, request: str, context: Any) -> str:
        """One command, one answer."""
        if request == "abort":
            await context.abort(grpc.StatusCode.ABORTED, "by hand")
        if request == "wait":
            self.waiting.release()
            await self.gate.wait()
        return _carry_out(request)

    async def ActMany(self, request: str, context: Any) -> AsyncIterator[str]:
        """An answer before the command, and one after."""
        try:
            yield "before"
            yield await self.Act(request, context)
        finally:
            self.closed.set()

    async def ActOn(self, requests: AsyncIterator[str], context: Any) -> str:
        """The answers to many commands in one."""
        return ",".join([await self.Act(request, context) async for request in requests])


def _encode(answer: str | bytes) -> bytes:
    # grpc.aio has already turned a str into bytes when it calls this.
    return answer if isinstance(answer, bytes) else answer.encode()


def adder(servicer: ActServicer | AioActServicer) -> Callable[[Any], None]:
    """What registers a servicer with a server of either kind."""
    coding = {"request_deserializer": bytes.decode, "response_serializer": _encode}
    handlers = {
        "Act": grpc.unary_unary_rpc_method_handler(servicer.Act, **coding),
        "ActMany": grpc.unary_stream_rpc_method_handler(servicer.ActMany, **coding),
        "ActOn": grpc.stream_unary_rpc_method_handler(servicer.ActOn, **coding),
    }
    generic = grpc.method_handlers_generic_handler(SERVICE, handlers)
    return lambda server: server.add_generic_rpc_handlers((generic,))


class ActStub:
    """The client's side, for a channel of either kind."""

    def __init__(self, channel: Any) -> None:
        coding = {"request_serializer": str.encode, "response_deserializer": bytes.decode}
        self.act = channel.unary_unary(f"/{SERVICE}/Act", **coding)
        self.act_many = channel.unary_stream(f"/{SERVICE}/ActMany", **coding)
        self.act_on = channel.stream_unary(f"/{SERVICE}/ActOn", **coding)
