"""The names that callers choose, checked before any of them comes near the file system.

It must not know what a name stands for: whether a bank or a snapshot exists is the catalog's.
"""

from __future__ import annotations

import re

from memory3.errors import InvalidArgumentError

_PREFIX = "banks/"
_BANK_ID = re.compile(r"[a-z][a-z0-9-]{0,62}")
_SNAPSHOT_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_REFERENCE_ID = re.compile(r"[0-9a-f]{32}")


def bank_id(name: str, field: str) -> str:
    """The id in a resource name.

    Args:
        name: A resource name, ``banks/{bank}``.
        field: The request's field, for the error.

    Raises:
        InvalidArgumentError: The name is empty or is not of that form.
    """
    bare = name.removeprefix(_PREFIX)
    if not name.startswith(_PREFIX) or not _BANK_ID.fullmatch(bare):
        raise InvalidArgumentError(
            f"{name[:100]!r} does not name a bank",
            field=field,
            remedy="use banks/{bank}, where {bank} is a lower-case letter followed by at most 62 "
            "lower-case letters, digits or hyphens",
        )
    return bare


def resource_name(bank: str) -> str:
    """The resource name of a bank's id."""
    return f"{_PREFIX}{bank}"


def is_bank_id(name: str) -> bool:
    """Whether a folder's name can be a bank."""
    return _BANK_ID.fullmatch(name) is not None


def is_snapshot_id(name: str) -> bool:
    """Whether a folder's name can be a snapshot."""
    return _SNAPSHOT_ID.fullmatch(name) is not None


def snapshot_id(name: str, field: str) -> str:
    """A snapshot's id as it was given, once it is known to be one.

    Raises:
        InvalidArgumentError: It is empty or has characters other than those allowed.
    """
    if not _SNAPSHOT_ID.fullmatch(name):
        raise InvalidArgumentError(
            f"{name[:100]!r} is not a snapshot's id",
            field=field,
            remedy="use 1 to 63 lower-case letters, digits or hyphens, no hyphen first",
        )
    return name


def reference_key(reference_id: str, field: str) -> bytes:
    """The 16 bytes that a reference's id stands for.

    Raises:
        InvalidArgumentError: It is not 32 lower-case hexadecimal digits.
    """
    if not _REFERENCE_ID.fullmatch(reference_id):
        raise InvalidArgumentError(
            f"{reference_id[:100]!r} is not a reference's id",
            field=field,
            remedy="use the 32 lower-case hexadecimal digits that adding or searching gave",
        )
    return bytes.fromhex(reference_id)
