"""The id of the request being answered, carried in a context variable and in ``x-request-id``.

It must not know servers or channels: interceptors set the id, logs and outgoing calls read it.
"""

from __future__ import annotations

import contextvars
import re
import uuid
from collections.abc import Iterable
from typing import Any

REQUEST_ID_KEY = "x-request-id"

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
    """The metadata to send with an outgoing call, so that one id follows a request everywhere.

    Args:
        token: The bearer token to show; None for none.
    """
    request_id = (REQUEST_ID_KEY, current_request_id() or new_request_id())
    return (request_id,) if token is None else (request_id, ("authorization", f"Bearer {token}"))
