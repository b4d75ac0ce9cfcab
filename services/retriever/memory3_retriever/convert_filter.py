"""Filters of requests as conditions of the bank, checked on the way in."""

from __future__ import annotations

from memory3.v1 import retriever_pb2
from memory3_retriever import validation as check
from memory3_retriever.bank.filters import AnyOf, Between, Condition, Exists, Filter, Test


def where(message: retriever_pb2.Filter) -> Filter:
    """What a search is restricted to; empty for nothing.

    Raises:
        InvalidArgumentError: There are too many conditions, or one is none.
    """
    check.count_within("filter.conditions", message.conditions, 0, check.MAX_CONDITIONS)
    return tuple(
        Condition(_text(f"filter.conditions[{i}].key", each.key), _test(i, each))
        for i, each in enumerate(message.conditions)
    )


def _test(place: int, message: retriever_pb2.Condition) -> Test:
    field = f"filter.conditions[{place}]"
    kind = message.WhichOneof("test")
    if kind == "equals":
        return AnyOf(frozenset([_text(f"{field}.equals", message.equals)]))
    if kind == "any_of":
        values = message.any_of.values
        check.count_within(f"{field}.any_of.values", values, 0, check.MAX_CONDITION_VALUES)
        return AnyOf(
            frozenset(_text(f"{field}.any_of.values[{i}]", each) for i, each in enumerate(values))
        )
    if kind == "range":
        bounds = {
            name: _text(f"{field}.range.{name}", getattr(message.range, name))
            for name in ("min", "max", "above", "below")
            if message.range.HasField(name)
        }
        if not bounds:
            raise check.invalid(
                f"{field}.range", "it has no bounds", "set min, max, above or below"
            )
        return Between(**bounds)
    if kind == "exists":
        return Exists(message.exists)
    raise check.invalid(
        field, f"nothing is asked of {message.key[:100]!r}", "set equals, any_of, range or exists"
    )


def _text(field: str, value: str) -> str:
    size = len(value.encode())
    if size > check.MAX_METADATA_BYTES:
        raise check.invalid(
            field,
            f"{size} bytes, no metadata have more than {check.MAX_METADATA_BYTES}",
            "shorten it",
        )
    return value
