"""What was measured as a table of docs/performance.md: `python -m benchmarks.decoder.report`.

Prints the table; with ``--write`` it takes the place of the last one, between two marks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print or write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decoder.report", description=__doc__
    )
    parser.add_argument("figures", type=Path, nargs="?", default="build/bench/decoder.json")
    parser.add_argument("--write", type=Path, metavar="DOCUMENT", help="docs/performance.md")
    options = parser.parse_args(arguments)
    table = markdown(json.loads(Path(options.figures).read_text(encoding="utf-8")))
    if options.write is None:
        print(table)
        return
    text = options.write.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        parser.error(f"{options.write} has no marks {BEGIN} and {END}")
    options.write.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}", encoding="utf-8")


def markdown(figures: dict[str, Any]) -> str:
    """Ratios of the run, then its times, as Markdown."""
    lines = [
        f"Shapes {figures['shape']} and {figures['large']}; {figures['dtype']} where a name says "
        "nothing else.",
        "",
        "| figure | value |",
        "|---|---|",
    ]
    lines += [
        f"| `{name}` | {value:.3g} |"
        for name, value in figures.items()
        if isinstance(value, int | float)
    ]
    details = figures.get("details", {})
    plain = [each for each in ("plain", "large") if each in details]
    if plain:
        lines += ["", "| tokens/s (share of the memory's speed) |" + _joined(_ways()), _rule(4)]
        lines += [line for each in plain for line in _plain(details[each], _shape(figures, each))]
    for points in details.get("growth", {}).values():
        key = next(iter(points[0]))
        lines += ["", f"| {key} | tokens/s | ms for a token | ms to the first |", _rule(4)]
        lines += [
            f"| {p[key]:g} | {p['tokens_per_second']:.3g} ({p['tokens_per_second_ratio']:.2f}) | "
            f"{p['token_ms']:.3g} ({p['token_ms_ratio']:.2f}) | "
            f"{p['first_token_ms']:.3g} ({p['first_token_ms_ratio']:.2f}) |"
            for p in points
        ]
    return "\n".join(lines)


def _ways() -> tuple[str, ...]:
    return "memory3", "transformers", "llama_cpp"


def _plain(rows: dict[str, Any], shape: str) -> Iterator[str]:
    for name, row in rows.items():
        if not name.endswith(("_b1", "_b8")):
            continue
        speeds, shares = row["tokens_per_second"], row["share_of_bandwidth"]
        cells = [f"{speeds[w]:.3g} ({shares[w]:.0%})" if w in speeds else "" for w in _ways()]
        yield f"| {shape}, {name.replace('_b', ', ')} |" + _joined(cells)


def _shape(figures: dict[str, Any], row: str) -> str:
    return str(figures["shape" if row == "plain" else "large"])


def _joined(cells: Sequence[str]) -> str:
    return "".join(f" {cell} |" for cell in cells)


def _rule(columns: int) -> str:
    return "|" + "---|" * columns


if __name__ == "__main__":
    main()
