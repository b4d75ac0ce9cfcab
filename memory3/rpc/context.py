"""What follows a request everywhere: its id and its trace.

The id is carried in a context variable, and on the wire in ``x-request-id``. It must not know
servers or channels: whoever answers sets it, logs and outgoing calls read it.
"""

from __future__ import annotations

import contextvars
import re
import uuid
from collections.abc import Iterable
from typing import Any

from memory3.observability import tracing

REQUEST_ID_KEY = "x-request-id"
AUTHORIZATION_KEY = "authorization"

# What a caller may choose as an id: printable, short, safe in a log line.
_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "memory3_request_id", default=None
)


def current_request_id() -> str | None:
    """The id of the request that this thread or task is answering; None outside of one."""
    return _request_id.get()


def set_request_id(request_id: str | None) -> None:
    """Set the id for this thread or task; None when its request has ended."""
    _request_id.set(request_id)


def new_request_id() -> str:
    """A fresh, unique id."""
    return uuid.uuid4().hex


def request_id_of(metadata: Iterable[Any] | None) -> str:
    """The id in a call's metadata, or a fresh one if there is none that is acceptable."""
    for key, value in metadata or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and _ACCEPTED_ID.fullmatch(value):
            return value
    return new_request_id()


def call_metadata(token: str | None = None) -> tuple[tuple[str, str], ...]:
    """What an outgoing call carries: the request's id, its trace, and credentials.

    Args:
        token: The bearer token to show; None for none.
    """
    metadata = [(REQUEST_ID_KEY, current_request_id() or new_request_id())]
    if (traceparent := tracing.current().traceparent) is not None:
        metadata.append((tracing.TRACEPARENT_KEY, traceparent))
    if token is not None:
        metadata.append((AUTHORIZATION_KEY, f"Bearer {token}"))
    return tuple(metadata)
