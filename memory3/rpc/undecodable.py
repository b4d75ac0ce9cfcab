"""Requests as they arrive: read without failing, taken where errors are typed.

gRPC would end a call whose bytes are no message before any servicer sees it, as UNKNOWN or INTERNAL
and without an ErrorInfo. So reading a request never fails here: what cannot be read is told where
errors are typed. It must not know services.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from memory3.errors import InvalidArgumentError, RequestCancelledError

_UNDECODABLE: Final = object()


def lenient(deserializer: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """A deserializer that gives a stand-in for bytes that are no message."""
    if deserializer is None:
        return None

    def deserialize(data: bytes) -> Any:
        try:
            return deserializer(data)
        except DecodeError:
            return _UNDECODABLE

    return deserialize


def checked(request: Any) -> Any:
    """A request as it was read.

    Raises:
        InvalidArgumentError: It could not be read.
    """
    if request is _UNDECODABLE:
        raise InvalidArgumentError(
            "the bytes sent are not a message of this method",
            field="request",
            remedy="generate the client from this version's protocol; texts must be valid UTF-8",
        )
    return request


def checked_stream(requests: Iterable[Any]) -> Iterator[Any]:
    """As ``checked``, for each request of a stream.

    Raises:
        RequestCancelledError: The caller went away.
    """
    try:
        for request in requests:
            yield checked(request)
    except grpc.RpcError as error:
        raise RequestCancelledError("the caller is gone") from error


def only(requests: Iterable[Any]) -> Any:
    """The one request of a call that has one, once it has arrived.

    Raises:
        InvalidArgumentError: The caller sent none, or it could not be read.
        RequestCancelledError: The caller went away.
    """
    for request in checked_stream(requests):
        return request
    raise InvalidArgumentError(
        "no message was sent", field="request", remedy="send one message of this method"
    )


async def aio_checked_stream(requests: AsyncIterable[Any]) -> AsyncIterator[Any]:
    """As ``checked_stream``, for an aio server."""
    async for request in requests:
        yield checked(request)
