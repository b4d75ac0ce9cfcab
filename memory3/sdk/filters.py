"""Conditions on the metadata of references: written as text or as values, sent as messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from memory3.errors import InvalidArgumentError
from memory3.v1 import retriever_pb2

_COMPARED: Final = re.compile(
    r"\s*(?P<key>[^=<>]+?)\s*(?:(?P<sign>>=|<=|=|>|<)\s*(?P<value>.*?)|\s+in\s+(?P<list>.*?))\s*",
    re.DOTALL,
)
_EXISTS: Final = re.compile(r"\s*(?P<key>.+?)\s+(?P<word>exists|missing)\s*", re.DOTALL)
_BOUNDS: Final = {">=": "min", "<=": "max", ">": "above", "<": "below"}


@dataclass(frozen=True, slots=True)
class Condition:
    """One test of one key of the metadata; give one of ``equals``, ``any_of``, bounds, ``exists``.

    Attributes:
        key: The key; ``$source`` and ``$title`` stand for the reference's own fields.
        equals: The value.
        any_of: Values of which it is one.
        min: The least value. Bounds that are all numbers compare numbers, others compare text.
        max: The greatest value.
        above: A lower bound that is itself outside.
        below: An upper bound that is itself outside.
        exists: Whether there is the key at all.
    """

    key: str
    equals: str | None = None
    any_of: Sequence[str] | None = None
    min: str | None = None
    max: str | None = None
    above: str | None = None
    below: str | None = None
    exists: bool | None = None

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read ``lang=de``, ``year>=2020``, ``tag in a,b``, ``author exists``, ``author missing``.

        Raises:
            InvalidArgumentError: It has none of these forms.
        """
        if found := _COMPARED.fullmatch(text):
            key, value = found["key"], found["value"]
            if found["list"] is not None:
                return cls(key, any_of=[each.strip() for each in found["list"].split(",")])
            if found["sign"] == "=":
                return cls(key, equals=value)
            bound: Any = {_BOUNDS[found["sign"]]: value}
            return cls(key, **bound)
        if found := _EXISTS.fullmatch(text):
            return cls(found["key"], exists=found["word"] == "exists")
        raise InvalidArgumentError(
            f"{text[:100]!r} is no condition",
            field="where",
            remedy="write KEY=VALUE, KEY>=VALUE, KEY<=VALUE, KEY>VALUE, KEY<VALUE, KEY in A,B, "
            "KEY exists or KEY missing",
        )


Where = str | Condition | Iterable[str | Condition]
"""One condition or several that must all hold, as text or as ``Condition``."""


def filter_message(where: Where) -> retriever_pb2.Filter | None:
    """The message of a filter; None where there is no condition.

    Raises:
        InvalidArgumentError: A text is no condition.
    """
    given = [where] if isinstance(where, str | Condition) else where
    conditions = [Condition.parse(each) if isinstance(each, str) else each for each in given]
    if not conditions:
        return None
    return retriever_pb2.Filter(conditions=[_message(each) for each in conditions])


def _message(condition: Condition) -> retriever_pb2.Condition:
    message = retriever_pb2.Condition(key=condition.key)
    if condition.equals is not None:
        message.equals = condition.equals
    elif condition.any_of is not None:
        message.any_of.values.extend(condition.any_of)
        message.any_of.SetInParent()
    elif condition.exists is not None:
        message.exists = condition.exists
    else:
        for name in _BOUNDS.values():
            if getattr(condition, name) is not None:
                setattr(message.range, name, getattr(condition, name))
    return message
