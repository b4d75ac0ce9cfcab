"""Every field of every request at the ends of what it can hold, found from the protocol itself.

A new field is attacked by itself. Which values are refused is the field's business; how is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from tests.faults.messages import extreme_integers, is_map

Change = Callable[[Any], None]

_REALS = (float("nan"), float("inf"), float("-inf"), -1.0, 3e38, 1e-45)
_HUGE = 2 << 20
_TEXTS = {
    "empty": "", "blank": " \n\t", "nul": "a\0b", "line": "banks/a\nb", "path": "../../etc/passwd",
    "astral": "\U0010ffff" * 100, "turned": "\u202e", "huge": "x" * _HUGE, "named": "banks/" * 99,
    "number": "9" * 400, "token": "YmFua3MK////",
}  # fmt: skip
_MANY = 100_000
_MAX_DEPTH = 4


@dataclass(frozen=True)
class Extreme:
    """One field at one end.

    Attributes:
        path: The field, dots between the messages that it is in.
        name: What is done to it.
        apply: Does it to a message.
    """

    path: str
    name: str
    apply: Change


def extremes(message_class: Any) -> Iterator[Extreme]:
    """All of a kind of message."""
    yield from _fields(message_class.DESCRIPTOR, (), 0)


def _fields(descriptor: Any, above: tuple[FieldDescriptor, ...], depth: int) -> Iterator[Extreme]:
    for field in descriptor.fields:
        path = ".".join(each.name for each in (*above, field))
        for name, change in _changes(field):
            yield Extreme(path, name, _within(above, change))
        inner = field.message_type
        if inner is not None and not is_map(field) and depth < _MAX_DEPTH:
            yield from _fields(inner, (*above, field), depth + 1)


def _within(above: tuple[FieldDescriptor, ...], change: Change) -> Change:
    def apply(message: Any) -> None:
        for field in above:
            message = getattr(message, field.name)
            if field.is_repeated:
                # What is there is harmed, not what nobody would reach behind it.
                message = message[0] if message else message.add()
        change(message)

    return apply


def _changes(field: FieldDescriptor) -> Iterator[tuple[str, Change]]:
    if is_map(field):
        yield from _map_changes(field)
    elif field.is_repeated:
        yield from _list_changes(field)
    elif field.message_type is not None:
        yield "set", lambda message: getattr(message, field.name).SetInParent()
    else:
        for name, value in _values(field):
            yield name, lambda message, value=value: setattr(message, field.name, value)


def _list_changes(field: FieldDescriptor) -> Iterator[tuple[str, Change]]:
    def added(message: Any, count: int, value: Any) -> None:
        items = getattr(message, field.name)
        if field.message_type is None:
            items.extend([value] * count)
        else:
            for _ in range(count):
                items.add()

    for name, value in _values(field) if field.message_type is None else [("empty", None)]:
        yield name, lambda message, value=value: added(message, 1, value)
    short = next(iter(_values(field)), ("", None))[1] if field.message_type is None else None
    yield "many", lambda message: added(message, _MANY, short)
    yield "none", lambda message: message.ClearField(field.name)


def _map_changes(field: FieldDescriptor) -> Iterator[tuple[str, Change]]:
    key, value = field.message_type.fields
    (_, first), *_ = _values(value)

    def fill(message: Any) -> None:
        pairs = getattr(message, field.name)
        texts = key.cpp_type == FieldDescriptor.CPPTYPE_STRING
        for number in range(_MANY // 10):
            pairs[str(number) if texts else number] = first

    yield "many", fill
    for name, each in _values(key):
        yield f"key {name}", lambda message, each=each: _pair(message, field, each, first)
    for name, each in _values(value):
        some = "k" if key.cpp_type == FieldDescriptor.CPPTYPE_STRING else 3
        yield name, lambda message, some=some, each=each: _pair(message, field, some, each)


def _pair(message: Any, field: FieldDescriptor, key: Any, value: Any) -> None:
    getattr(message, field.name)[key] = value


def _values(field: FieldDescriptor) -> Iterator[tuple[str, Any]]:
    kind = field.cpp_type
    if field.type == FieldDescriptor.TYPE_BYTES:
        yield from (("empty", b""), ("huge", bytes(_HUGE)))
    elif kind == FieldDescriptor.CPPTYPE_STRING:
        yield from _TEXTS.items()
    elif kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        yield from ((str(value), value) for value in _REALS)
    elif kind == FieldDescriptor.CPPTYPE_BOOL:
        yield "true", True
    else:
        yield from ((str(value), value) for value in (0, *extreme_integers(field)))
