"""Run the measurements: `python -m benchmarks [CHECKPOINT]`; writes build/bench/memory.json."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.memory import measure


def main() -> None:
    """Measure, show and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("checkpoint", nargs="?", default="checkpoints/people", type=Path)
    parser.add_argument("--out", default="build/bench/memory.json", type=Path)
    options = parser.parse_args()
    figures = measure(options.checkpoint)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    table = Table("figure", "value", title=f"memories of {figures['checkpoint']}")
    for part in ("write", "first_token", "decode"):
        for name, value in figures[part].items():
            table.add_row(f"{part}: {name.replace('_', ' ')}", f"{value:,.2f}")
    table.add_row("bytes: text of a reference", f"{figures['bytes']['text']:,}")
    for model, parts in figures["codecs"].items():
        for codec, size in parts.pop("bytes").items():
            table.add_row(f"{model}: bytes of a memory, {codec}", f"{size:,}")
        for part, values in parts.items():
            for name, value in values.items():
                what = f"{part} {name}".replace("_", " ")
                table.add_row(f"{model}: {what}", f"{value:,.2f}")
    Console().print(table)


main()
