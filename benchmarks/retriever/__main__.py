"""Measure the retriever: `python -m benchmarks.retriever`; writes build/bench/retriever.json.

Banks of several sizes, so that growth shows; a million takes some ten minutes and 10 GB of disk. A
real retriever process answers over loopback; vectors and memories are made up and put into the
bank's files directly, so no encoder's time is in any figure.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.retriever.measure import measure

SIZES = [10_000, 100_000, 1_000_000]
# From this size on only a tenth of the memories is stored, for want of disk.
_LARGE = 1_000_000


def main() -> None:
    """Measure, show and save."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.retriever",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--references", type=int, nargs="+", default=SIZES, help="default: %(default)s"
    )
    parser.add_argument(
        "--stored", type=float, help="share of memories that are stored; default 1, 0.1 from 1M on"
    )
    index = f"hnsw:threads={len(os.sched_getaffinity(0))}"
    parser.add_argument("--index", default=index, help="with parameters; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load; default 5")
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/people"))
    parser.add_argument("--folder", type=Path, help="where the banks are written; default: /tmp")
    parser.add_argument("--out", type=Path, default=Path("build/bench/retriever.json"))
    options = parser.parse_args()
    figures: dict[str, Any] = {
        "index": options.index,
        "processors": len(os.sched_getaffinity(0)),
        "sizes": {},
    }
    for count in sorted(set(options.references)):
        share = options.stored or (0.1 if count >= _LARGE else 1.0)
        data = Path(tempfile.mkdtemp(prefix="memory3-bench-", dir=options.folder))
        try:
            figures["sizes"][str(count)] = measure(
                data, options.checkpoint, count, share, options.index, options.seconds, _told
            )
        finally:
            shutil.rmtree(data)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name in ("qps_ratio", "bytes_ratio", "recall_at_5"):
        figures[name] = min(size[name] for size in figures["sizes"].values())
    options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    _show(figures)


def _told(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _show(figures: dict[str, Any]) -> None:
    sizes = list(figures["sizes"])
    table = Table("figure", *(f"{int(size):,}" for size in sizes), title=figures["index"])
    rows = [dict(_flat(each)) for each in figures["sizes"].values()]
    for name in rows[-1]:
        values = (row.get(name) for row in rows)
        table.add_row(name, *("" if value is None else f"{value:,.3f}" for value in values))
    Console().print(table)


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{name} ")
        else:
            found.append((f"{prefix}{name}".replace("_", " "), value))
    return found


main()
