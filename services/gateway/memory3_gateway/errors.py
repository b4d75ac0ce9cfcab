"""Typed errors as OpenAI's clients know them: a status, a type, the parameter, a code.

It must not know routes; the names of fields on the wire become those of the JSON body here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from memory3.errors import (
    InvalidArgumentError,
    Memory3Error,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    StorageFullError,
    UnsupportedError,
)

# The caller has left; nobody reads it, but logs and metrics show it.
CLIENT_CLOSED: Final = 499

_STATUS_BY_CODE: Final[Mapping[str, int]] = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    # Not 409 or 412: clients try 409 again, and it would fail again.
    "FAILED_PRECONDITION": 400,
    "DATA_LOSS": 500,
    "UNAVAILABLE": 503,
    "RESOURCE_EXHAUSTED": 429,
    "DEADLINE_EXCEEDED": 504,
    "CANCELLED": CLIENT_CLOSED,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
}
_TYPE_BY_STATUS: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    501: "invalid_request_error",
    503: "service_unavailable_error",
    504: "timeout_error",
    507: "insufficient_storage_error",
}
# What a field is called in the body, where that is not its name on the wire.
_MEMORY_FIELDS: Final = {
    "num_references",
    "reference_ids",
    "retrieval_timeout",
    "strict",
    "report",
    "with_references",
}


class ModelNotFoundError(NotFoundError):
    """The request names a model that is not the one loaded."""

    reason = "MODEL_NOT_FOUND"


class UnsupportedParameterError(InvalidArgumentError):
    """The request has a parameter that this model cannot obey."""

    reason = "UNSUPPORTED_PARAMETER"


class BodyTooLargeError(InvalidArgumentError):
    """The body is larger than the gateway reads."""

    reason = "BODY_TOO_LARGE"


class MethodNotAllowedError(UnsupportedError):
    """The path exists, but not with this method."""

    reason = "METHOD_NOT_ALLOWED"


class ForeignHostError(PermissionDeniedError):
    """The request was sent to another name, or by a page of another site."""

    reason = "FOREIGN_HOST"


def status_of(error: Memory3Error) -> int:
    """The HTTP status of an error."""
    match error:
        case StorageFullError():
            return 507
        case BodyTooLargeError():
            return 413
        case MethodNotAllowedError():
            return 405
    return _STATUS_BY_CODE.get(error.code, 500)


def body_of(error: Memory3Error) -> dict[str, Any]:
    """The body of an error: ``{"error": {"message", "type", "param", "code"}}``."""
    status = status_of(error)
    remedy = f" ({error.remedy})" if error.remedy else ""
    kind = _TYPE_BY_STATUS.get(status, "invalid_request_error" if status < 500 else "server_error")
    if isinstance(error, QuotaExceededError):
        kind = "insufficient_quota"
    return {
        "error": {
            "message": f"{error.message}{remedy}",
            "type": kind,
            "param": param_of(error.field),
            "code": error.reason.lower(),
        }
    }


def headers_of(error: Memory3Error) -> dict[str, str]:
    """The headers of an error: when to try again, and how to say who one is."""
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        # Whole seconds for everyone; OpenAI's clients read the milliseconds first.
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
        headers["retry-after-ms"] = str(math.ceil(error.retry_after_s * 1000))
    elif status_of(error) == 429:
        headers["retry-after"] = "1"
    if status_of(error) == 401:
        headers["www-authenticate"] = "Bearer"
    return headers


def param_of(field: str | None) -> str | None:
    """The parameter of the body that a field of the protocol comes from."""
    if field is None:
        return None
    name = field.removeprefix("sampling.").removeprefix("memory.")
    if name == "bank" or name.partition("[")[0] in _MEMORY_FIELDS:
        return f"memory3.{name}"
    return name
