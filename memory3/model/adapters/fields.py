"""Reads the fields of a Hugging Face ``config.json``; a missing or ill-typed one is named.

It must not know families: which fields there are, and what stands for a missing one, is theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from memory3.errors import CheckpointFormatError
from memory3.model.checks import is_int

FILE = "config.json"


class Fields:
    """The fields of a configuration, or of an object in it.

    Args:
        values: Names and values; null counts as missing, as it does in the families' own code.
        prefix: Stands before the names in errors.
    """

    def __init__(self, values: Mapping[str, Any], prefix: str = "") -> None:
        self._declared = frozenset(values)
        self._values = {name: value for name, value in values.items() if value is not None}
        self._prefix = prefix

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def declares(self, name: str) -> bool:
        """Whether a field is there, be it null, which for some fields means none."""
        return name in self._declared

    def count(self, name: str, default: int | None = None) -> int:
        """A whole number from 1.

        Raises:
            CheckpointFormatError: It is something else, or missing without a default.
        """
        value = self._value(name, default)
        if not is_int(value) or value < 1:
            raise self.refusal(name, f"{name} is {value!r:.80}", "it must be a whole number from 1")
        return int(value)

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number above zero.

        Raises:
            CheckpointFormatError: It is something else, or missing without a default.
        """
        value = self._value(name, default)
        if not (is_int(value) or isinstance(value, float)) or not 0 < value < math.inf:
            raise self.refusal(name, f"{name} is {value!r:.80}", "it must be a number above zero")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false.

        Raises:
            CheckpointFormatError: It is something else.
        """
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self.refusal(name, f"{name} is {value!r:.80}", "it must be true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A text.

        Raises:
            CheckpointFormatError: It is something else, or missing without a default.
        """
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self.refusal(name, f"{name} is {value!r:.80}", "it must be a text")
        return value

    def object(self, name: str) -> Fields:
        """An object; without fields if it is missing.

        Raises:
            CheckpointFormatError: It is something else.
        """
        value = self._values.get(name, {})
        if not isinstance(value, Mapping):
            raise self.refusal(name, f"{name} is {value!r:.80}", "it must be an object")
        return Fields(value, f"{self._prefix}{name}.")

    def raw(self, name: str) -> Any:
        """A value as it stands; None if it is missing."""
        return self._values.get(name)

    def names(self) -> list[str]:
        """The names of all fields."""
        return list(self._values)

    def refusal(self, name: str, message: str, remedy: str) -> CheckpointFormatError:
        """The error that refuses a field."""
        return CheckpointFormatError(message, field=f"{FILE}:{self._prefix}{name}", remedy=remedy)

    def _value(self, name: str, default: Any) -> Any:
        value = self._values.get(name, default)
        if value is None:
            raise self.refusal(
                name, f"{name} is missing", "add it, or download the model's config.json again"
            )
        return value
