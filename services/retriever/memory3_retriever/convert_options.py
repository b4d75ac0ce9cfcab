"""The options of banks and of adding, from messages and back; checked on the way in."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from google.protobuf.duration_pb2 import Duration

from memory3.v1 import retriever_pb2
from memory3_retriever import validation as check
from memory3_retriever.bank.records import BankInfo, Durability
from memory3_retriever.ingest.outcomes import DuplicatePolicy

CHANGEABLE = ("description", "quota_bytes", "default_ttl", "durability")

_DURABILITIES: dict[int, Durability] = {
    retriever_pb2.DURABILITY_UNSPECIFIED: "fsync",
    retriever_pb2.DURABILITY_FSYNC: "fsync",
    retriever_pb2.DURABILITY_ASYNC: "async",
}

_DUPLICATES: dict[int, DuplicatePolicy] = {
    retriever_pb2.DUPLICATE_POLICY_UNSPECIFIED: "skip",
    retriever_pb2.DUPLICATE_POLICY_SKIP: "skip",
    retriever_pb2.DUPLICATE_POLICY_OVERWRITE: "overwrite",
    retriever_pb2.DUPLICATE_POLICY_FAIL: "fail",
}


def bank_options(
    message: retriever_pb2.Bank, names: Collection[str] = CHANGEABLE
) -> dict[str, Any]:
    """The options of a bank that can be changed, by the names of ``BankInfo``.

    Args:
        message: The bank.
        names: Those that are meant, of ``CHANGEABLE``.

    Raises:
        InvalidArgumentError: One cannot be accepted.
    """
    options: dict[str, Any] = {}
    if "description" in names:
        options["description"] = check.description(message.description)
    if "quota_bytes" in names:
        quota = message.quota_bytes
        options["quota_bytes"] = check.within("bank.quota_bytes", quota, 0, check.MAX_QUOTA_BYTES)
    if "default_ttl" in names:
        given = message.HasField("default_ttl")
        ttl = check.ttl_ns("bank.default_ttl", message.default_ttl) if given else 0
        options["default_ttl_ns"] = ttl
    if "durability" in names:
        options["durability"] = _durability(message.durability)
    return options


def masked_options(message: retriever_pb2.Bank, paths: Collection[str]) -> dict[str, Any]:
    """The options that a mask names.

    Raises:
        InvalidArgumentError: It names none, or one that cannot be changed, or a value is wrong.
    """
    known = ", ".join(CHANGEABLE)
    if not paths:
        raise check.invalid("update_mask", "it names nothing", f"name some of {known}")
    for place, path in enumerate(paths):
        if path not in CHANGEABLE:
            raise check.invalid(
                f"update_mask.paths[{place}]",
                f"{path[:100]!r} cannot be changed",
                f"name some of {known}; for anything else make another bank",
            )
    return bank_options(message, paths)


def set_options(message: retriever_pb2.Bank, info: BankInfo) -> None:
    """Write a bank's options into its message."""
    message.description = info.description
    message.quota_bytes = info.quota_bytes
    if info.default_ttl_ns:
        message.default_ttl.CopyFrom(_duration(info.default_ttl_ns))
    message.durability = (
        retriever_pb2.DURABILITY_ASYNC
        if info.durability == "async"
        else retriever_pb2.DURABILITY_FSYNC
    )


def duplicate_policy(value: int, *, replace: bool = False) -> DuplicatePolicy:
    """What becomes of references that are there already.

    Raises:
        InvalidArgumentError: This version does not know the value, or ``replace`` says another.
    """
    if value not in _DUPLICATES:
        raise check.invalid(
            "duplicate_policy",
            f"{value} is no duplicate policy",
            "use DUPLICATE_POLICY_SKIP, DUPLICATE_POLICY_OVERWRITE or DUPLICATE_POLICY_FAIL",
        )
    if replace and value != retriever_pb2.DUPLICATE_POLICY_UNSPECIFIED:
        raise check.invalid(
            "duplicate_policy",
            "replace already says what becomes of references that are there",
            "leave out one of the two",
        )
    return _DUPLICATES[value]


def _durability(value: int) -> Durability:
    if value not in _DURABILITIES:
        raise check.invalid(
            "bank.durability",
            f"{value} is no durability",
            "use DURABILITY_FSYNC or DURABILITY_ASYNC",
        )
    return _DURABILITIES[value]


def _duration(nanoseconds: int) -> Duration:
    return Duration(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)
