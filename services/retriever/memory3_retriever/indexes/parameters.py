"""The parameters in an index's name: ``m=32,ef=256``."""

from __future__ import annotations

from collections.abc import Mapping

from memory3.errors import InvalidArgumentError


def parse_numbers(
    index: str, argument: str | None, ranges: Mapping[str, tuple[int, int]]
) -> dict[str, int]:
    """The whole numbers of an index's argument, by name.

    Args:
        index: The index's name, for the error.
        argument: What stands after the colon, if anything.
        ranges: The least and the largest value of each name.

    Raises:
        InvalidArgumentError: A name is not known or a value is out of its range.
    """
    values: dict[str, int] = {}
    for part in argument.split(",") if argument is not None else ():
        name, _, value = part.partition("=")
        low, high = ranges.get(name, (1, 0))
        if not (value.isascii() and value.isdigit() and low <= int(value[:9]) <= high):
            told = ", ".join(f"{key}={a}..{b}" for key, (a, b) in ranges.items())
            raise InvalidArgumentError(
                f"the {index} index cannot take {part[:100]!r}",
                field="index",
                remedy=f'use "{index}", or "{index}:" and some of {told}, with commas between',
            )
        values[name] = int(value)
    return values
