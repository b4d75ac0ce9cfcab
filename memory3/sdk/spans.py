"""The span of a client's call, for processes that record traces; see ``memory3.observability``."""

from __future__ import annotations

from contextlib import AbstractContextManager

from memory3.observability import tracing
from memory3.sdk.call import Endpoint


def call_span(endpoint: Endpoint) -> AbstractContextManager[tracing.Span]:
    """A span of the block that makes a call, the current one within it."""
    return tracing.span(_name(endpoint), "client")


def start_call_span(endpoint: Endpoint) -> tracing.Span:
    """The span of a call whose answers come later; whoever reads them ends it."""
    return tracing.start(_name(endpoint), "client")


def _name(endpoint: Endpoint) -> str:
    return f"{endpoint.service}/{endpoint.method}"
