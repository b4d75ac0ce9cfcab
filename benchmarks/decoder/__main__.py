"""Measure the decoder: `python -m benchmarks.decoder`; writes build/bench/decoder.json.

Everything takes turns in one run on one thread of the model's, so that a busy machine slows all
alike; the ratios are what counts. Models have random weights: speed does not depend on them.
`python -m benchmarks.decoder.report` puts what was measured into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.decoder.rows import ROWS, Figures, Run
from benchmarks.decoder.shapes import SHAPES
from benchmarks.decoder.sizes import FULL, QUICK


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, show and save."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decoder",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shape", choices=SHAPES, default="100m", help="default: %(default)s")
    parser.add_argument("--large", choices=SHAPES, default="500m", help="default: %(default)s")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--rows", nargs="+", choices=ROWS, default=list(ROWS), help="what to measure; default: all"
    )
    parser.add_argument("--rounds", type=int, help=f"default: {FULL.rounds}")
    parser.add_argument("--quick", action="store_true", help="every path once, to see that it runs")
    parser.add_argument("--output", choices=("table", "json"), default="table")
    parser.add_argument("--out", type=Path, default=Path("build/bench/decoder.json"))
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else FULL
    sizes = replace(sizes, rounds=options.rounds or sizes.rounds)
    torch.set_num_threads(1)
    figures: Figures = {"shape": options.shape, "large": options.large, "dtype": options.dtype}
    details: Figures = {}
    with tempfile.TemporaryDirectory(prefix="memory3-bench-") as scratch, _progress() as tell:
        run = Run(options.shape, options.large, options.dtype, Path(scratch), sizes)
        rows = [name for name in ROWS if name in options.rows]
        for place, name in enumerate(rows):
            tell(name, place, len(rows))
            measured, details[name] = ROWS[name](run)
            figures |= measured
            _save(options.out, figures | {"details": details})
    if options.output == "json":
        print(json.dumps(figures, indent=2))
        return
    table = Table("figure", "value", title=f"decoder, {options.shape}, {options.dtype}")
    for name, value in figures.items():
        if not isinstance(value, str):
            table.add_row(name.replace("_", " "), f"{value:,.3f}")
    Console().print(table)


def _save(path: Path, figures: Figures) -> None:
    """After each row, so that what was measured outlasts a run that is broken off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    if not sys.stderr.isatty():
        yield lambda name, place, total: print(
            f"{name} ({place + 1} of {total}) …", file=sys.stderr, flush=True
        )
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("")
        yield lambda name, place, total: progress.update(
            task, description=name, completed=place, total=total
        )


if __name__ == "__main__":
    main()
