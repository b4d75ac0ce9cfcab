"""Sizes and times as people write them. Imports nothing heavy."""

from __future__ import annotations

import re
from typing import Final

import typer

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?i?B?)", re.IGNORECASE)
_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])", re.IGNORECASE)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_POWERS: Final = "KMGT"


def size_of(text: str) -> int:
    """The bytes of ``10GB``, ``512MiB``, ``1.5T`` or ``4096``; 0 of ``none``.

    Raises:
        typer.BadParameter: It is no size.
    """
    if text.strip().lower() == "none":
        return 0
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no size: write 10GB, 512MiB or none")
    number, unit = float(found[1]), found[2].upper()
    power = _POWERS.find(unit[0]) + 1 if unit and unit[0] in _POWERS else 0
    base: int = 1024 if "I" in unit else 1000
    return round(number * float(base**power))


def seconds_of(text: str) -> float:
    """The seconds of ``30d``, ``12h``, ``45m``, ``10s`` or ``2w``; 0 of ``never``.

    Raises:
        typer.BadParameter: It is no time.
    """
    if text.strip().lower() == "never":
        return 0.0
    found = _TIME.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise typer.BadParameter(f"{text!r} is no time: write 30d, 12h, 45m, 10s, 2w or never")
    return float(found[1]) * _SECONDS[found[2].lower()]


def seconds_text(seconds: float) -> str:
    """A time in its largest unit that divides it."""
    for unit in "wdhm":
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds:g}s"
