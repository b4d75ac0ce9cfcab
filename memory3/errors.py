"""Every error that memory3 raises on purpose, and the one table that both ends of the wire use.

It must not know gRPC: a code is the *name* of a status code, and ``memory3.rpc.status`` turns
errors into statuses and back.

    Memory3Error
    ├── InvalidArgumentError            INVALID_ARGUMENT
    │   ├── ReferenceTooLongError       (more tokens than the checkpoint's reference length)
    │   └── ReferenceBlankError
    ├── NotFoundError                   NOT_FOUND
    ├── AlreadyExistsError              ALREADY_EXISTS
    ├── FailedPreconditionError         FAILED_PRECONDITION
    │   ├── CheckpointMismatchError     (a bank, memory or cache of another checkpoint)
    │   ├── CheckpointError             (a checkpoint directory that cannot be used)
    │   │   ├── CheckpointMissingFileError
    │   │   ├── CheckpointDigestError
    │   │   ├── CheckpointShapeError
    │   │   └── CheckpointFormatError
    │   ├── SettingsError               (an environment variable or option of a service)
    │   ├── PortInUseError
    │   ├── TrainingDivergedError
    │   └── PluginError
    │       ├── PluginNotFoundError
    │       └── DuplicatePluginError
    ├── CorruptDataError                DATA_LOSS
    ├── UnavailableError                UNAVAILABLE
    │   ├── BackendUnavailableError     (a service or store behind this one)
    │   ├── LoadingError                (not ready yet)
    │   └── DrainingError               (shutting down)
    ├── ResourceExhaustedError          RESOURCE_EXHAUSTED
    │   ├── QueueFullError
    │   ├── QuotaExceededError
    │   └── StorageFullError
    ├── DeadlineExceededError           DEADLINE_EXCEEDED
    ├── RequestCancelledError           CANCELLED
    ├── UnauthenticatedError            UNAUTHENTICATED
    ├── PermissionDeniedError           PERMISSION_DENIED
    ├── UnsupportedError                UNIMPLEMENTED
    └── InternalError                   INTERNAL
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar


class Memory3Error(Exception):
    """The base of all errors; raise a subclass.

    Attributes:
        reason: The stable, machine-readable name of this kind of error, UPPER_SNAKE. One per class.
        code: The name of the gRPC status code it travels as.
        message: What went wrong, for a person.
        field: The field, option or file at fault, where there is one.
        remedy: What to do about it, where that is known.
        metadata: Further facts as strings: ``expected``, ``actual``, ``resource`` and the like.
        retry_after_s: Seconds after which to try again, where trying again makes sense.
    """

    reason: ClassVar[str] = "ERROR"
    code: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        remedy: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.remedy = remedy
        self.metadata: dict[str, str] = dict(metadata or {})
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{where}{self.message}{remedy}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason}: {self})"


class InvalidArgumentError(Memory3Error):
    """A field of the request cannot be accepted, whatever the state of the service."""

    reason = "INVALID_FIELD"
    code = "INVALID_ARGUMENT"


class ReferenceTooLongError(InvalidArgumentError):
    """A reference has more tokens than the checkpoint's reference length."""

    reason = "REFERENCE_TOO_LONG"


class ReferenceBlankError(InvalidArgumentError):
    """A reference has no text, or nothing in it that the tokenizer knows."""

    reason = "REFERENCE_BLANK"


class NotFoundError(Memory3Error):
    """The named resource does not exist."""

    reason = "NOT_FOUND"
    code = "NOT_FOUND"


class AlreadyExistsError(Memory3Error):
    """The resource to be made is there already, with other content."""

    reason = "ALREADY_EXISTS"
    code = "ALREADY_EXISTS"


class FailedPreconditionError(Memory3Error):
    """The request is well-formed, but what it meets here does not allow it."""

    reason = "FAILED_PRECONDITION"
    code = "FAILED_PRECONDITION"


class CheckpointMismatchError(FailedPreconditionError):
    """Something written with one checkpoint meets another. Never mixed, never silent.

    Args:
        what: What was met: a bank, a memory, a cache entry.
        field: The field that differs, such as ``checkpoint_digest``.
        expected: The value this side has.
        actual: The value that was met.
        remedy: What to do about it.
    """

    reason = "CHECKPOINT_MISMATCH"

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        remedy: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        expected: object = None,
        actual: object = None,
    ) -> None:
        super().__init__(
            message,
            field=field,
            remedy=remedy,
            metadata=_with_pair(metadata, expected, actual),
            retry_after_s=retry_after_s,
        )

    @property
    def expected(self) -> str | None:
        """The value this side has, as text."""
        return self.metadata.get("expected")

    @property
    def actual(self) -> str | None:
        """The value that was met, as text."""
        return self.metadata.get("actual")


def _with_pair(
    metadata: Mapping[str, str] | None, expected: object, actual: object
) -> dict[str, str]:
    pair = {"expected": expected, "actual": actual}
    given = {name: str(value) for name, value in pair.items() if value is not None}
    return {**(metadata or {}), **given}


class CheckpointError(FailedPreconditionError):
    """A checkpoint directory that cannot be used."""

    reason = "CHECKPOINT_UNUSABLE"


class CheckpointMissingFileError(CheckpointError):
    """A file that the checkpoint must have is not there."""

    reason = "CHECKPOINT_MISSING_FILE"


class CheckpointDigestError(CheckpointError):
    """A file's bytes are not the ones the manifest was written for."""

    reason = "CHECKPOINT_WRONG_DIGEST"


class CheckpointShapeError(CheckpointError):
    """A tensor is missing, surplus, or of another shape or dtype than the config says."""

    reason = "CHECKPOINT_WRONG_SHAPE"


class CheckpointFormatError(CheckpointError):
    """A file is not of the format it should be: pickle, broken JSON, another format version."""

    reason = "CHECKPOINT_WRONG_FORMAT"


class SettingsError(FailedPreconditionError):
    """A setting of a service has a value it cannot run with."""

    reason = "INVALID_SETTINGS"


class PortInUseError(FailedPreconditionError):
    """The address to listen on is taken or not ours to take."""

    reason = "PORT_IN_USE"


class TrainingDivergedError(FailedPreconditionError):
    """A loss is no number, or has left those before it far behind."""

    reason = "TRAINING_DIVERGED"


class PluginError(FailedPreconditionError):
    """A plugin cannot be loaded."""

    reason = "PLUGIN_UNUSABLE"


class PluginNotFoundError(PluginError):
    """No plugin of that name is installed; the message lists those that are."""

    reason = "PLUGIN_NOT_FOUND"


class DuplicatePluginError(PluginError):
    """Two installed packages claim the same plugin name."""

    reason = "PLUGIN_DUPLICATE"


class CorruptDataError(Memory3Error):
    """Stored or received bytes fail their checksum or contradict themselves."""

    reason = "CORRUPT_DATA"
    code = "DATA_LOSS"


class UnavailableError(Memory3Error):
    """The service cannot answer now; the same request may succeed later."""

    reason = "UNAVAILABLE"
    code = "UNAVAILABLE"


class BackendUnavailableError(UnavailableError):
    """A service or store that this one needs does not answer."""

    reason = "BACKEND_UNAVAILABLE"


class LoadingError(UnavailableError):
    """The service has started but is not ready yet."""

    reason = "LOADING"


class DrainingError(UnavailableError):
    """The service is shutting down and takes no new work."""

    reason = "DRAINING"


class ResourceExhaustedError(Memory3Error):
    """A limit has been reached."""

    reason = "RESOURCE_EXHAUSTED"
    code = "RESOURCE_EXHAUSTED"


class QueueFullError(ResourceExhaustedError):
    """Too many requests are waiting; carries the seconds after which to try again."""

    reason = "QUEUE_FULL"


class QuotaExceededError(ResourceExhaustedError):
    """The caller has used up what it may use."""

    reason = "QUOTA_EXCEEDED"


class StorageFullError(ResourceExhaustedError):
    """The disk or the map of a bank is full; what was there before is intact."""

    reason = "STORAGE_FULL"


class DeadlineExceededError(Memory3Error):
    """The caller's time, or the part of it set aside for this step, is used up."""

    reason = "DEADLINE_EXCEEDED"
    code = "DEADLINE_EXCEEDED"


class RequestCancelledError(Memory3Error):
    """The caller went away or asked to stop."""

    reason = "CANCELLED"
    code = "CANCELLED"


class UnauthenticatedError(Memory3Error):
    """No credentials, or credentials that are not valid."""

    reason = "UNAUTHENTICATED"
    code = "UNAUTHENTICATED"


class PermissionDeniedError(Memory3Error):
    """The caller may not do this, whether or not what it asks about exists."""

    reason = "PERMISSION_DENIED"
    code = "PERMISSION_DENIED"


class UnsupportedError(Memory3Error):
    """The service does not offer this method or this option."""

    reason = "UNSUPPORTED"
    code = "UNIMPLEMENTED"


class InternalError(Memory3Error):
    """A defect of memory3; the request id in it finds the traceback in the service's log."""

    reason = "INTERNAL"
    code = "INTERNAL"


def _subclasses(cls: type[Memory3Error]) -> Iterator[type[Memory3Error]]:
    for sub in cls.__subclasses__():
        if sub.__module__ == __name__:
            yield sub
            yield from _subclasses(sub)


# What a server writes into ErrorInfo.reason and a client reads back as a class.
ERRORS_BY_REASON: dict[str, type[Memory3Error]] = {
    error.reason: error for error in _subclasses(Memory3Error)
}


def from_reason(reason: str, message: str, **details: Any) -> Memory3Error | None:
    """The typed error for a reason, or None where this version does not know the reason."""
    error = ERRORS_BY_REASON.get(reason)
    return None if error is None else error(message, **details)
