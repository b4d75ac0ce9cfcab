"""Spans of the work on a request, and the header that carries a trace from service to service.

This is all that services see of tracing. It imports no OpenTelemetry: unless a process asked for
tracing (``otel``), spans record nothing, and only the caller's ``traceparent`` is handed on, so
that a chain is not broken by a service that does not take part.

Attributes hold names, counts and seconds; never a prompt, a text or a credential.
"""

from __future__ import annotations

import contextvars
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

from memory3.errors import Memory3Error

TRACEPARENT_KEY = "traceparent"

Kind = Literal["server", "client", "internal"]
Attribute = str | int | float | bool

# W3C Trace Context, version 00: trace id, span id, flags; ids of zeros are none.
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Span:
    """A piece of work; this one records nothing and hands on the header that it was given.

    Attributes:
        traceparent: What outgoing calls carry; None outside of any trace.
    """

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str | None = None) -> None:
        self.traceparent = traceparent

    @property
    def trace_id(self) -> str | None:
        """The trace's 32 hexadecimal digits; None outside of any trace."""
        return None if self.traceparent is None else self.traceparent[3:35]

    def set(self, **attributes: Attribute) -> None:
        """Note what is known of the work; names get the prefix ``memory3.``."""

    def fail(self, code: str) -> None:
        """Note that the work failed, with the name of a status code or an error's reason."""

    def end(self, end_ns: int | None = None) -> None:
        """The work is over, now or at a time in nanoseconds since 1970."""


class Tracer(Protocol):
    """What makes spans that are recorded."""

    def start(
        self,
        name: str,
        kind: Kind,
        parent: Span,
        attributes: dict[str, Attribute],
        start_ns: int | None = None,
    ) -> Span:
        """Begin a span below ``parent``, which may be one of another process."""


_NONE = Span()
_tracer: Tracer | None = None
_current: contextvars.ContextVar[Span] = contextvars.ContextVar("memory3_span", default=_NONE)


def install(tracer: Tracer | None) -> None:
    """Record spans from now on with this tracer; None for no more."""
    global _tracer
    _tracer = tracer


def enabled() -> bool:
    """Whether spans are recorded."""
    return _tracer is not None


def current() -> Span:
    """The span of the work that this thread or task does; one without effect outside of any."""
    return _current.get()


def enter_call(method: str, metadata: Iterable[Any] | None) -> Span:
    """Begin the span of a call being answered, below the caller's, and make it the current one.

    Args:
        method: The full method path.
        metadata: Of the call; a ``traceparent`` in it that is none is passed over.
    """
    parent = Span(_traceparent_of(metadata))
    span = start(method.lstrip("/"), "server", parent)
    _current.set(span)
    return span


def leave_call(span: Span, code: str) -> None:
    """End the span of a call with the name of its status code; nothing is current any more."""
    if code != "OK":
        span.fail(code)
    span.end()
    _current.set(_NONE)


def start(
    name: str, kind: Kind = "internal", parent: Span | None = None, **attributes: Attribute
) -> Span:
    """Begin a span that is not made the current one; the caller ends it.

    Args:
        name: What the work is, the same for all requests.
        kind: Whether it answers a call, makes one, or neither.
        parent: What it is part of; None for the current span.
        attributes: As ``Span.set``.
    """
    above = _current.get() if parent is None else parent
    if _tracer is None:
        return above
    return _tracer.start(name, kind, above, attributes)


@contextmanager
def use(span: Span) -> Iterator[None]:
    """Make a span the current one within this block."""
    before = _current.get()
    _current.set(span)
    try:
        yield
    finally:
        # Not by token: a generator may be ended in another context than the one it began in.
        _current.set(before)


@contextmanager
def span(name: str, kind: Kind = "internal", **attributes: Attribute) -> Iterator[Span]:
    """A span of this block, the current one within it; an error that leaves the block marks it."""
    if _tracer is None:
        yield _NONE
        return
    made = start(name, kind, None, **attributes)
    with use(made), ending(made):
        yield made


@contextmanager
def ending(span: Span) -> Iterator[None]:
    """End a span with this block; an error that leaves the block marks it."""
    try:
        yield
    except GeneratorExit:
        raise
    except BaseException as error:
        span.fail(error.reason if isinstance(error, Memory3Error) else type(error).__name__)
        raise
    finally:
        span.end()


def record(name: str, started: float, ended: float, parent: Span, **attributes: Attribute) -> None:
    """Note work that is over already.

    Args:
        name: What the work was.
        started: When it began, on ``time.perf_counter``.
        ended: When it ended, on the same clock.
        parent: What it was part of.
        attributes: As ``Span.set``.
    """
    if _tracer is None:
        return
    offset_ns = time.time_ns() - time.perf_counter_ns()
    begun = _tracer.start(name, "internal", parent, attributes, int(started * 1e9) + offset_ns)
    begun.end(int(ended * 1e9) + offset_ns)


def _traceparent_of(metadata: Iterable[Any] | None) -> str | None:
    for key, value in metadata or ():
        if key == TRACEPARENT_KEY and isinstance(value, str) and _TRACEPARENT.fullmatch(value):
            return value
    return None
