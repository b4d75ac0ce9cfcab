"""Checks that the dataclasses of a configuration share: kinds, counts, and reading from JSON.

A wrong value raises at construction and names its field and what to give instead. Knows no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from memory3.errors import InvalidArgumentError

T = TypeVar("T")

Kinds = Mapping[str, tuple[Callable[[Any], bool], str]]
"""By annotation: what a field accepts, and in which words that is asked for."""


def is_int(value: object) -> bool:
    """Whether a value is a whole number, which true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


KINDS: Kinds = {
    "int": (is_int, "a whole number"),
    "float": (
        lambda value: (is_int(value) or isinstance(value, float)) and 0 < value < 1e30,
        "a finite number above zero",
    ),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "str": (lambda value: isinstance(value, str) and bool(value), "a text that is not empty"),
    "tuple[int, ...]": (
        lambda value: isinstance(value, tuple) and all(is_int(item) for item in value),
        "a list of whole numbers",
    ),
}


def require(condition: bool, field_name: str, message: str, remedy: str) -> None:
    """Refuse a field unless a condition holds.

    Raises:
        InvalidArgumentError: It does not.
    """
    if not condition:
        raise InvalidArgumentError(message, field=field_name, remedy=remedy)


def check_kinds(config: Any, prefix: str, kinds: Kinds = KINDS) -> None:
    """Check every field of a dataclass against the kind that its annotation names."""
    for item in fields(config):
        value = getattr(config, item.name)
        accepts, wanted = kinds[str(item.type)]
        require(
            accepts(value),
            prefix + item.name,
            f"{prefix}{item.name} is {value!r:.80}",
            f"give {wanted}",
        )


def check_count(config: Any, name: str, prefix: str, limit: int) -> None:
    """Check that a field is a number from 1 to a limit."""
    require(
        0 < getattr(config, name) <= limit,
        prefix + name,
        f"{prefix}{name} is {getattr(config, name)}",
        f"give a whole number from 1 to {limit}",
    )


def read(cls: type[T], values: Mapping[str, Any], *, prefix: str) -> T:
    """Make a dataclass of stored values; an unknown or missing field is named.

    Raises:
        InvalidArgumentError: A field is missing, unknown, of the wrong type or out of range.
    """
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for name in values:
        require(
            name in known,
            prefix + name,
            f"unknown field {prefix + name}",
            "remove it, or use a newer version of memory3",
        )
    for name, item in known.items():
        require(
            name in values or item.default is not MISSING,
            prefix + name,
            f"{prefix + name} is missing",
            "add it to config.json",
        )
    return cls(**values)
