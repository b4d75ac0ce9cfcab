"""Requests whose bytes are no message, refused like any other field that cannot be accepted.

gRPC would end such a call before any servicer sees it, as UNKNOWN or INTERNAL and without an
ErrorInfo. So reading a request never fails here: what cannot be read is told where errors are
typed. It must not know services.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Final

from google.protobuf.message import DecodeError

from memory3.errors import InvalidArgumentError

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
    """As ``checked``, for each request of a stream."""
    for request in requests:
        yield checked(request)


async def aio_checked_stream(requests: AsyncIterable[Any]) -> AsyncIterator[Any]:
    """As ``checked_stream``, for an aio server."""
    async for request in requests:
        yield checked(request)
