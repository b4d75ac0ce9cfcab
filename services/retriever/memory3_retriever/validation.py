"""The checks of request fields that several methods share; each names the field and the remedy."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from memory3.errors import InvalidArgumentError
from memory3_retriever.bank.records import Vectors

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
DEFAULT_K = 5
MAX_K = 256
MAX_QUERIES = 256
MAX_QUERY_IDS = 256
MAX_DOCUMENTS = 256
MAX_DOCUMENT_BYTES = 3 << 20
MAX_REFERENCES = 1024
MAX_DELETE_IDS = 10_000
MAX_DELETE_SOURCES = 1000
MAX_HELD_IDS = 65_536
MAX_DESCRIPTION = 1024
MAX_METADATA_PAIRS = 64
MAX_METADATA_BYTES = 16 << 10
# Far above what is meant for a source, title or heading; bounds what every answer repeats.
MAX_NAME_BYTES = 4096
MAX_QUERY_CHARACTERS = 65_536
# Far above what any tokenizer puts into a reference; longer texts are not worth tokenizing.
MAX_REFERENCE_CHARACTERS = 65_536
MAX_CONDITIONS = 32
MAX_CONDITION_VALUES = 1000
MAX_TTL_SECONDS = 36_500 * 86_400
MAX_QUOTA_BYTES = 1 << 60
LAST_SECOND = 253_402_300_799  # of the year 9999, the last that a Timestamp knows
# A page ends early when it has so many bytes: clients refuse messages above 4 MiB by default.
MAX_PAGE_BYTES = 3 << 20


def invalid(field: str, message: str, remedy: str) -> InvalidArgumentError:
    """The error for a field that cannot be accepted."""
    return InvalidArgumentError(message, field=field, remedy=remedy)


def within(field: str, value: int, low: int, high: int) -> int:
    """A number as it was given, once it is known to be in its range.

    Raises:
        InvalidArgumentError: It is not.
    """
    if not low <= value <= high:
        raise invalid(field, f"{value} is not within {low} to {high}", f"use {low} to {high}")
    return value


def count_within(field: str, items: Collection[object], low: int, high: int) -> None:
    """Refuse a list that is too short or too long.

    Raises:
        InvalidArgumentError: It is.
    """
    if not low <= len(items) <= high:
        raise invalid(
            field,
            f"{len(items)} were given, allowed are {low} to {high}",
            "split the request" if len(items) > high else f"give at least {low}",
        )


def page_size(value: int) -> int:
    """The size of a page; 0 means the default.

    Raises:
        InvalidArgumentError: It is out of range.
    """
    return within("page_size", value, 0, MAX_PAGE_SIZE) or DEFAULT_PAGE_SIZE


def page_token(kind: str, last: str) -> str:
    """A token that continues a list after an item of it.

    Args:
        kind: Which list it is: of which bank, and how it is filtered.
        last: The item.
    """
    return base64.urlsafe_b64encode(f"{kind}\n{last}".encode()).decode()


def after_token(kind: str, token: str) -> str:
    """The item that a token stands for; empty for the first page.

    Raises:
        InvalidArgumentError: The token is not from an earlier answer to the same request.
    """
    if not token:
        return ""
    try:
        found, _, last = (
            base64.b64decode(token, altchars=b"-_", validate=True).decode().partition("\n")
        )
    except (binascii.Error, ValueError):
        found, last = "", ""
    if found != kind or not last:
        raise invalid(
            "page_token",
            "the token is not one for this list of this bank",
            "use next_page_token of an earlier answer to the same request, or start without one",
        )
    return last


def name_text(field: str, value: str) -> str:
    """A source, title or heading, of bearable length.

    Raises:
        InvalidArgumentError: It is longer.
    """
    size = len(value.encode())
    if size > MAX_NAME_BYTES:
        raise invalid(field, f"{size} bytes, allowed are {MAX_NAME_BYTES}", "shorten it")
    return value


def metadata(field: str, pairs: Mapping[str, str]) -> dict[str, str]:
    """The caller's own pairs, within their limits.

    Raises:
        InvalidArgumentError: There are too many or they are too large.
    """
    if len(pairs) > MAX_METADATA_PAIRS:
        raise invalid(
            field, f"{len(pairs)} pairs, allowed are {MAX_METADATA_PAIRS}", "leave some out"
        )
    size = sum(len(key.encode()) + len(value.encode()) for key, value in pairs.items())
    if size > MAX_METADATA_BYTES:
        raise invalid(field, f"{size} bytes, allowed are {MAX_METADATA_BYTES}", "leave some out")
    return dict(pairs)


def query_vector(field: str, values: Collection[float], dimensions: int) -> Vectors:
    """A vector to search with, [dimensions].

    Raises:
        InvalidArgumentError: It has another length, or a value is not finite.
    """
    vector = np.array(values, dtype=np.float32)
    if vector.shape != (dimensions,):
        raise invalid(
            field,
            f"{vector.size} values, the bank's vectors have {dimensions}",
            "use a vector of the bank's embedder",
        )
    if not np.isfinite(vector).all():
        raise invalid(field, "a value is not finite", "use finite numbers")
    return vector


def required_digest(field: str, digest: str) -> str:
    """A checkpoint's digest.

    Raises:
        InvalidArgumentError: It is missing or is not 64 lower-case hexadecimal digits.
    """
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise invalid(
            field,
            "it is missing" if not digest else f"{digest[:80]!r} is not a digest",
            "give the digest of the checkpoint that will read the memories, 64 hexadecimal digits",
        )
    return digest


def description(value: str) -> str:
    """A bank's description, of bearable length.

    Raises:
        InvalidArgumentError: It is longer.
    """
    if len(value) > MAX_DESCRIPTION:
        raise invalid(
            "bank.description",
            f"{len(value)} characters, allowed are {MAX_DESCRIPTION}",
            "shorten it",
        )
    return value


def ttl_ns(field: str, message: Duration) -> int:
    """How long references live, in nanoseconds.

    Raises:
        InvalidArgumentError: It is not above 0, or above a hundred years.
    """
    nanoseconds = message.seconds * 10**9 + message.nanos
    if not 0 < nanoseconds <= MAX_TTL_SECONDS * 10**9 or not 0 <= message.nanos < 10**9:
        raise invalid(
            field,
            f"{message.seconds} s and {message.nanos} ns are not above 0 and within "
            f"{MAX_TTL_SECONDS} s",
            "give a time within a hundred years, or leave it out",
        )
    return nanoseconds


def time_ns(field: str, stamp: Timestamp) -> int:
    """A time, in nanoseconds since the epoch; one before it is 0.

    Raises:
        InvalidArgumentError: It is no time.
    """
    if not 0 <= stamp.nanos < 10**9 or stamp.seconds > LAST_SECOND:
        raise invalid(field, "it is no time", "use a time before the year 10000")
    return max(0, stamp.seconds * 10**9 + stamp.nanos)
