"""Errors as statuses: what a status carries, how big it gets, and how it is read back."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from memory3.errors import ERRORS_BY_REASON, InternalError, InvalidArgumentError, QueueFullError
from memory3.rpc.status import DETAILS_KEY, from_rpc_error, to_status
from tests.unit.rpc.act import details_for


class FailedCall(grpc.RpcError):
    """A failed call as a stub raises it, made from a status."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: tuple = ()) -> None:
        super().__init__(details)
        self._code, self._details, self._trailing = code, details, trailing

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> tuple:
        return self._trailing


def _details(trailing: tuple) -> status_pb2.Status:
    return status_pb2.Status.FromString(dict(trailing)[DETAILS_KEY])


@pytest.mark.parametrize("reason", sorted(ERRORS_BY_REASON))
def test_every_error_comes_back_as_itself(reason: str) -> None:
    """An error read from its own status has the same class and the same parts."""
    details = details_for(reason)
    error = ERRORS_BY_REASON[reason](details.pop("message"), **details)
    back = from_rpc_error(FailedCall(*to_status(error)))
    assert type(back) is type(error)
    assert vars(back) == vars(error)


def test_a_status_carries_one_error_info_and_retry_info() -> None:
    """The details are one ErrorInfo of our domain, and a RetryInfo because a delay is known."""
    status = _details(to_status(QueueFullError("full", retry_after_s=0.25)).trailing_metadata)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert [detail.Unpack(info) for detail in status.details].count(True) == 1
    assert [detail.Unpack(retry) for detail in status.details].count(True) == 1
    assert (info.reason, info.domain) == ("QUEUE_FULL", "memory3")
    assert retry.retry_delay.ToMilliseconds() == 250


def test_an_error_without_delay_carries_no_retry_info() -> None:
    """No delay, no RetryInfo: a client must not retry what cannot succeed."""
    status = _details(to_status(InvalidArgumentError("no")).trailing_metadata)
    assert [detail.TypeName() for detail in status.details] == ["google.rpc.ErrorInfo"]


@pytest.mark.parametrize("sign", ["x", "é", "記"])
def test_huge_errors_stay_small_on_the_wire(sign: str) -> None:
    """However long the parts, details stay within 4 KiB in base64 and remain readable."""
    metadata = {f"key{i}": sign * 5000 for i in range(40)}
    error = InvalidArgumentError(sign * 9000, field="text", remedy=sign * 9000, metadata=metadata)
    status = to_status(error)
    assert len(status.message.encode()) <= 1024
    assert len(dict(status.trailing_metadata)[DETAILS_KEY]) * 4 / 3 <= 4096
    back = from_rpc_error(FailedCall(*status))
    assert (type(back), back.field) == (InvalidArgumentError, "text")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "BACKEND_UNAVAILABLE"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
        (grpc.StatusCode.CANCELLED, "CANCELLED"),
        (grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED"),
        (grpc.StatusCode.UNKNOWN, "INTERNAL"),
    ],
)
def test_a_strangers_status_becomes_the_error_of_its_code(
    code: grpc.StatusCode, reason: str
) -> None:
    """A status without our ErrorInfo, from a proxy or gRPC itself, is mapped by its code."""
    assert from_rpc_error(FailedCall(code, "it says")).reason == reason


def test_broken_or_foreign_details_are_ignored() -> None:
    """Details that are no Status, or of another domain, do not hide the code and message."""
    foreign = status_pb2.Status(code=3, message="no")
    foreign.details.add().Pack(error_details_pb2.ErrorInfo(reason="QUEUE_FULL", domain="elsewhere"))
    for raw in (b"\xff\xff\xff", foreign.SerializeToString()):
        failed = FailedCall(grpc.StatusCode.INVALID_ARGUMENT, "no", ((DETAILS_KEY, raw),))
        assert type(from_rpc_error(failed)) is InvalidArgumentError


def test_an_rpc_error_without_a_status_is_internal() -> None:
    """An RpcError that is no call at all still becomes a typed error."""
    assert type(from_rpc_error(grpc.RpcError("odd"))) is InternalError
