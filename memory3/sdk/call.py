"""The five kinds of call that a client can make. Each says what to send and how to read the answer.

A call is a value: it is built once, for the sync and the async client alike, and knows neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from memory3.sdk.folds import Fold

ResultT = TypeVar("ResultT")
ItemT = TypeVar("ItemT")

ServiceName = Literal["decoder", "retriever", "encoder"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method of a service and the seconds it may take unless the caller says otherwise."""

    service: ServiceName
    method: str
    default_timeout: float


@dataclass(frozen=True, slots=True)
class Unary(Generic[ResultT]):
    """One request, one response."""

    endpoint: Endpoint
    request: Any
    convert: Callable[[Any], ResultT]
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Events(Generic[ItemT]):
    """One request, a stream of responses handed on as they come; None is left out."""

    endpoint: Endpoint
    request: Any
    convert: Callable[[Any], ItemT | None]
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Folded(Generic[ResultT]):
    """One request, a stream of responses folded into one result."""

    endpoint: Endpoint
    request: Any
    new_fold: Callable[[], Fold[Any, ResultT]]
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Paged(Generic[ItemT]):
    """A list read page by page; the request carries ``page_token``."""

    endpoint: Endpoint
    request: Any
    items: Callable[[Any], Iterable[ItemT]]
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Batched(Generic[ItemT, ResultT]):
    """A stream of requests, each acknowledged by one response once durable.

    Attributes:
        requests: Read in the caller's own thread or task, so that its errors are the caller's.
        items: What one acknowledgement says.
        collect: The result of all acknowledgements.
        on_durable: Told of each acknowledgement as it comes.
        timeout: Seconds to wait for one acknowledgement.
    """

    endpoint: Endpoint
    requests: Iterable[Any]
    items: Callable[[Any], list[ItemT]]
    collect: Callable[[list[ItemT]], ResultT]
    on_durable: Callable[[list[ItemT]], None] | None = None
    timeout: float | None = None
