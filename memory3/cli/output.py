"""Writes results to stdout: JSON for programs; for people a table, plain where nobody looks."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from memory3.cli.options import Output


def jsonable(value: Any) -> Any:
    """A value as JSON knows it: dataclasses as objects, times in ISO 8601."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: jsonable(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    return value


def print_json(value: Any) -> None:
    """Write a value as indented JSON."""
    print(json.dumps(jsonable(value), indent=2, ensure_ascii=False))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None
) -> None:
    """Write a table: framed on a terminal, tab-separated lines under a header elsewhere.

    Args:
        columns: The names of the columns; one that begins with ``>`` is aligned to the right.
        rows: As many cells each.
        title: Shown on a terminal only.
    """
    names = [column.removeprefix(">") for column in columns]
    if not sys.stdout.isatty():
        print("\t".join(names))
        for row in rows:
            print("\t".join(" ".join(cell_text(cell).split()) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for column, name in zip(columns, names, strict=True):
        table.add_column(name, justify="right" if column.startswith(">") else "left")
    for row in rows:
        # Text, not str: brackets in a reference are words, not markup.
        table.add_row(*(Text(cell_text(cell)) for cell in row))
    Console().print(table)


def print_facts(facts: Mapping[str, object]) -> None:
    """Write names and values, one pair a line."""
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        print(f"{name:<{width}}  {cell_text(value)}".rstrip())


def cell_text(value: object) -> str:
    """A value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return str(value)


def emit(output: Output, value: Any, facts: Mapping[str, object]) -> None:
    """Write one result: the whole value as JSON, or the facts that matter to a person."""
    if output is Output.JSON:
        print_json(value)
    else:
        print_facts(facts)


def size_text(num_bytes: float) -> str:
    """A size in bytes with a unit that keeps it short."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} TiB"


def snippet(text: str, width: int = 100) -> str:
    """The beginning of a text on one line; whole where no terminal limits the width."""
    line = " ".join(text.split())
    if not sys.stdout.isatty() or len(line) <= width:
        return line
    return line[: width - 1].rstrip() + "…"
