"""What a request is told when it fails for time, or by a defect."""

from __future__ import annotations

from memory3.errors import DeadlineExceededError, InternalError, Memory3Error
from memory3.rpc.logging import get_logger

_log = get_logger(__name__)


def too_late() -> DeadlineExceededError:
    """The end of a request whose time is up."""
    return DeadlineExceededError("the caller's deadline has passed", field="deadline")


def typed(error: Exception) -> Memory3Error:
    """An error as its caller may see it; a defect is logged where the request is known."""
    if isinstance(error, Memory3Error):
        return error
    _log.error("a sequence failed by a defect", exc_info=error)
    return InternalError(
        "the model failed on this request", remedy="look for its time in the decoder's log"
    )
