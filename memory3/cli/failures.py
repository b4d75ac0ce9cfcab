"""Tells an error to a person: what is wrong, where, and what to do. On stderr, plainly."""

from __future__ import annotations

import sys

from memory3.errors import Memory3Error


def tell(error: Memory3Error) -> None:
    """Write an error with its field and remedy to stderr."""
    where = f"{error.field}: " if error.field else ""
    print(f"error: {where}{error.message}", file=sys.stderr)
    if error.remedy:
        print(f"  fix: {error.remedy}", file=sys.stderr)
    request_id = error.metadata.get("request_id")
    if error.code in ("INTERNAL", "UNKNOWN") and request_id:
        print(f"  request id for the service's log: {request_id}", file=sys.stderr)


def warn(message: str) -> None:
    """Write a warning to stderr."""
    print(f"warning: {message}", file=sys.stderr)
