"""Pictures of what was measured: `python -m benchmarks.decoder.plots DECODER_JSON FOLDER`.

Small SVG files without dates, the same for the same figures. It computes nothing but ratios.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# The paper's decoder, its cache off (§7.3).
PAPER_RATIO = 0.648

_GREEN, _GREY = "#2a7f62", "#9aa0a6"
_GROWTH = {
    "batch": ("sequences", "sequences at once", "tokens_per_second", "tokens/s"),
    "context": ("share", "share of the window that is filled", "token_ms", "ms for a token"),
    "references": ("references", "references for a chunk", "token_ms", "ms for a token"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw whatever was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoder.plots", description=__doc__)
    parser.add_argument("figures", type=Path, help="build/bench/decoder.json")
    parser.add_argument("folder", type=Path, help="where to, for example docs/img")
    options = parser.parse_args(arguments)
    figures = json.loads(options.figures.read_text(encoding="utf-8"))
    for path in draw(figures, options.folder):
        print(path)


def draw(figures: dict[str, Any], folder: Path) -> list[Path]:
    """Draw what the figures have rows for.

    Args:
        figures: As in build/bench/decoder.json.
        folder: Made if it is not there.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    details, files = figures["details"], []
    pictures: dict[str, tuple[str, Callable[[Axes, Any], None]]] = {
        "memory-ratio": ("memories", _memory_ratio),
        "first-token": ("memories", _first_token),
        "plain-decoding": ("plain", _plain),
        "plain-decoding-large": ("large", _plain),
        **{f"growth-{curve}": ("growth", partial(_growth, curve)) for curve in _GROWTH},
    }
    # Else each file would have other identifiers, and text would be paths.
    with matplotlib.rc_context({"svg.hashsalt": "memory3", "svg.fonttype": "none"}):
        for name, (row, picture) in pictures.items():
            if row not in details:
                continue
            figure = Figure(figsize=(4.8, 2.7), layout="constrained")
            axes = figure.add_subplot()
            axes.spines[["top", "right"]].set_visible(False)
            picture(axes, details[row])
            files.append(folder / f"{name}.svg")
            figure.savefig(files[-1], metadata={"Date": None})
    return files


def _memory_ratio(axes: Axes, rows: Any) -> None:
    named = {name: row for name, row in rows.items() if name.startswith("b")}
    labels = [name[1:].replace("_", ", ") for name in named]
    axes.bar(labels, [row["ratio"] for row in named.values()], color=_GREEN)
    axes.axhline(PAPER_RATIO, color=_GREY, linestyle="--", label=f"the paper's {PAPER_RATIO}")
    axes.set(xlabel="sequences at once", ylabel="tokens/s, with over without")
    axes.legend(loc="lower right")


def _first_token(axes: Axes, rows: Any) -> None:
    each = rows["first_token"]
    names = {"none": "nothing", "memory": "memories", "text": "the same as text"}
    axes.barh(list(names.values()), [each[f"{name}_ms"] for name in names], color=_GREEN)
    axes.invert_yaxis()
    axes.set(xlabel="ms to the first token")


def _plain(axes: Axes, rows: Any) -> None:
    kinds = [name for name in rows if name.endswith(("_b1", "_b8"))]
    ways = ("memory3", "transformers", "llama_cpp")
    for place, way in enumerate(ways):
        made = [rows[kind]["tokens_per_second"].get(way, 0.0) for kind in kinds]
        if any(made):
            at = [x + 0.27 * place for x in range(len(kinds))]
            colour = (_GREEN, _GREY, "#c9832b")[place]
            axes.bar(at, made, 0.25, label=way.replace("_", "."), color=colour)
    labels = [kind.replace("_b", ", ") for kind in kinds]
    axes.set_xticks([x + 0.27 for x in range(len(kinds))], labels)
    axes.set(ylabel="tokens/s")
    axes.legend()


def _growth(curve: str, axes: Axes, rows: Any) -> None:
    key, label, value, unit = _GROWTH[curve]
    values = [p[value] for p in rows[curve]]
    axes.plot([p[key] for p in rows[curve]], values, "o-", color=_GREEN)
    axes.set(xlabel=label, ylabel=unit)
    axes.set_ylim(0, 1.08 * max(values))
    if curve != "batch":
        other = axes.twinx()
        firsts = [p["first_token_ms"] for p in rows[curve]]
        other.plot([p[key] for p in rows[curve]], firsts, "s--", color=_GREY)
        other.set_ylabel("ms to the first token (dashed)")
        other.set_ylim(0, 1.08 * max(firsts))


if __name__ == "__main__":
    main()
