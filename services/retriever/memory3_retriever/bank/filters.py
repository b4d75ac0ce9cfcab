"""What a search may be restricted to: conditions on the metadata of references.

Each condition tests one value; a filter holds where all of its conditions do. It must not know
where metadata are stored, or the wire.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

SOURCE_FIELD: Final = "$source"
TITLE_FIELD: Final = "$title"

Predicate = Callable[[str], bool]

_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The value is one of these; one alone for equality."""

    values: frozenset[str]

    def predicate(self) -> Predicate:
        """Tells whether a value passes."""
        return self.values.__contains__


@dataclass(frozen=True, slots=True)
class Between:
    """The value is within bounds: as a number where all bounds are numbers, else as a string.

    Attributes:
        min: The least value.
        max: The greatest value.
        above: A bound that is itself outside.
        below: The same from above.
    """

    min: str | None = None
    max: str | None = None
    above: str | None = None
    below: str | None = None

    def predicate(self) -> Predicate:
        """Tells whether a value passes; one that is no number is outside of numbers."""
        given = (self.min, self.max, self.above, self.below)
        bounds = [None if bound is None else number(bound) for bound in given]
        if bounds.count(None) > given.count(None):
            # Python compares strings by code point, as UTF-8 is ordered.
            return lambda value: _is_within(value, *given)

        def holds(value: str) -> bool:
            found = number(value)
            return found is not None and _is_within(found, *bounds)

        return holds


@dataclass(frozen=True, slots=True)
class Exists:
    """There is the key, or there is not."""

    wanted: bool


Test = AnyOf | Between | Exists


@dataclass(frozen=True, slots=True)
class Condition:
    """One test of one key of the metadata; ``$source`` and ``$title`` stand for the fields.

    An empty source or title counts as none.
    """

    key: str
    test: Test


Filter = tuple[Condition, ...]
"""All of these must hold."""


def number(value: str) -> Decimal | None:
    """The decimal number that a string is: digits with at most a sign and a point; else None."""
    return Decimal(value) if _DECIMAL.fullmatch(value) else None


def _is_within(value: Any, low: Any, high: Any, above: Any, below: Any) -> bool:
    return (
        (low is None or value >= low)
        and (high is None or value <= high)
        and (above is None or value > above)
        and (below is None or value < below)
    )
