"""Errors to gRPC statuses and back, by the one table in ``memory3.errors``.

Every status carries exactly one ``google.rpc.ErrorInfo`` (domain ``memory3``), and a ``RetryInfo``
where trying again makes sense. Details are kept small: a status of some 20 kB would replace the
real code by RESOURCE_EXHAUSTED on its way through HTTP/2 headers.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, NamedTuple, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from memory3.errors import (
    ERRORS_BY_REASON,
    AlreadyExistsError,
    BackendUnavailableError,
    CorruptDataError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    Memory3Error,
    NotFoundError,
    PermissionDeniedError,
    RequestCancelledError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnsupportedError,
)
from memory3.rpc.context import REQUEST_ID_KEY, current_request_id

DOMAIN = "memory3"
DETAILS_KEY = "grpc-status-details-bin"

# Base64 makes these 4 KiB on the wire.
MAX_DETAILS_BYTES = 3072
_MAX_MESSAGE_BYTES = 1024
_MAX_VALUE_BYTES = 512

_ERRORS_BY_CODE: dict[grpc.StatusCode, type[Memory3Error]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.ABORTED: FailedPreconditionError,
    grpc.StatusCode.DATA_LOSS: CorruptDataError,
    grpc.StatusCode.UNAVAILABLE: BackendUnavailableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.CANCELLED: RequestCancelledError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
}

ResponseT = TypeVar("ResponseT")


class WireStatus(NamedTuple):
    """What an error becomes on the wire."""

    code: grpc.StatusCode
    message: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def to_status(error: Memory3Error) -> WireStatus:
    """The status for an error: its code, its message, one ErrorInfo, RetryInfo where it applies."""
    code = grpc.StatusCode[error.code]
    message = _shorten(error.message, _MAX_MESSAGE_BYTES)
    status = status_pb2.Status(code=code.value[0], message=message)
    if error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        status.details.add().Pack(retry)
    status.details.add().Pack(_error_info(error, MAX_DETAILS_BYTES - status.ByteSize() - 128))
    trailing: list[tuple[str, str | bytes]] = [(DETAILS_KEY, status.SerializeToString())]
    request_id = current_request_id()
    if request_id is not None:
        trailing.append((REQUEST_ID_KEY, request_id))
    return WireStatus(code, message, tuple(trailing))


def abort_with(context: grpc.ServicerContext, error: Memory3Error) -> NoReturn:
    """End a call of a thread-pool server with an error; never returns."""
    status = to_status(error)
    context.set_trailing_metadata(status.trailing_metadata)
    context.abort(status.code, status.message)
    raise AssertionError("abort returned")


async def aio_abort_with(context: grpc.aio.ServicerContext[Any, Any], error: Memory3Error) -> None:
    """End a call of an aio server with an error; always raises."""
    status = to_status(error)
    await context.abort(status.code, status.message, status.trailing_metadata)


def from_rpc_error(error: grpc.RpcError) -> Memory3Error:
    """The typed error that a failed call stands for.

    Args:
        error: What a stub raised, sync or aio.

    Returns:
        The very class the server raised, with its field, remedy and metadata, where the server is
        one of ours; else the class for the status code. ``metadata["request_id"]`` is the server's
        request id where it gave one.
    """
    call: Any = error
    code = call.code() if callable(getattr(call, "code", None)) else grpc.StatusCode.UNKNOWN
    message = (call.details() if callable(getattr(call, "details", None)) else None) or str(error)
    trailing = _trailing_metadata(call)
    info, retry_after_s = _read_details(trailing.get(DETAILS_KEY))
    metadata = dict(info.metadata) if info is not None else {}
    field, remedy = metadata.pop("field", None), metadata.pop("remedy", None)
    request_id = trailing.get(REQUEST_ID_KEY)
    if isinstance(request_id, str):
        metadata.setdefault("request_id", request_id)
    known = ERRORS_BY_REASON.get(info.reason) if info is not None else None
    error_class = known or _ERRORS_BY_CODE.get(code, InternalError)
    return error_class(
        message, field=field, remedy=remedy, metadata=metadata, retry_after_s=retry_after_s
    )


@contextlib.contextmanager
def typed_errors() -> Iterator[None]:
    """Within this block, sync or async, a failed call raises its typed error.

    Raises:
        Memory3Error: The subclass that the server raised.
    """
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error


def typed_stream(responses: Iterable[ResponseT]) -> Iterator[ResponseT]:
    """The responses of a sync streaming call, its failure raised as a typed error."""
    with typed_errors():
        yield from responses


async def aio_typed_stream(responses: AsyncIterable[ResponseT]) -> AsyncIterator[ResponseT]:
    """The responses of an aio streaming call, its failure raised as a typed error."""
    with typed_errors():
        async for response in responses:
            yield response


def _error_info(error: Memory3Error, room: int) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    given = {"field": error.field, "remedy": error.remedy, **error.metadata}
    for key, value in given.items():
        if value is None:
            continue
        info.metadata[key] = _shorten(value, _MAX_VALUE_BYTES)
        if info.ByteSize() > room:
            del info.metadata[key]
    return info


def _shorten(text: str, max_bytes: int) -> str:
    encoded = text.encode("utf-8", errors="replace")
    if len(encoded) <= max_bytes:
        return encoded.decode()
    return encoded[: max_bytes - 3].decode("utf-8", errors="ignore") + "…"


def _trailing_metadata(call: Any) -> dict[str, str | bytes]:
    read = getattr(call, "trailing_metadata", None)
    return dict((read() if callable(read) else None) or ())


def _read_details(
    raw: str | bytes | None,
) -> tuple[error_details_pb2.ErrorInfo | None, float | None]:
    if not isinstance(raw, bytes):
        return None, None
    try:
        status = status_pb2.Status.FromString(raw)
    except DecodeError:
        return None, None
    info: error_details_pb2.ErrorInfo | None = None
    retry_after_s: float | None = None
    for detail in status.details:
        candidate, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(candidate) and candidate.domain == DOMAIN:
            info = candidate
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    return info, retry_after_s
