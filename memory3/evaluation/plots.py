"""Pictures of results: accuracy against bytes per reference, loss with and without memory.

Drawn by matplotlib, which comes with the trainer. It must not compute anything: what it draws
stands in the printed JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory3.errors import InvalidArgumentError, PluginNotFoundError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABELS = {
    "references": ("num_references", "references of a question"),
    "layers": ("num_memory_layers", "memory layers"),
}


def check_plot(file: Path | None) -> None:
    """Tell at once, not after hours, that a plot cannot be drawn; None asks for none.

    Raises:
        InvalidArgumentError: matplotlib does not know the ending.
        PluginNotFoundError: matplotlib is not installed.
    """
    if file is None:
        return
    known = _figure(1, 1).canvas.get_supported_filetypes()
    if file.suffix.removeprefix(".").lower() not in known:
        raise InvalidArgumentError(
            f"cannot write {file.name}: there is no picture of that kind",
            field="plot",
            remedy=f"end it in one of {', '.join(sorted(known))}",
        )


def plot_scores(
    scores: Mapping[str, Mapping[str, Any]], measures: Sequence[str], file: Path
) -> None:
    """Bars of some measures for each condition.

    Raises:
        InvalidArgumentError: The file cannot be written.
        PluginNotFoundError: matplotlib is not installed.
    """
    figure = _figure(1.2 + 1.4 * len(scores), 4.0)
    axes = figure.add_subplot()
    width = 0.8 / len(measures)
    for place, measure in enumerate(measures):
        at = [x + place * width for x in range(len(scores))]
        axes.bar(at, [score[measure] for score in scores.values()], width, label=measure)
    middle = (len(measures) - 1) * width / 2
    axes.set_xticks([x + middle for x in range(len(scores))], list(scores))
    axes.legend()
    _save(figure, file)


def plot_ablation(result: Mapping[str, Any], file: Path) -> None:
    """F1 against bytes per reference, loss against tokens kept, and the other factors.

    Args:
        result: What `ablate` returns.
        file: Where to.

    Raises:
        InvalidArgumentError: The file cannot be written, or there is nothing to draw.
        PluginNotFoundError: matplotlib is not installed.
    """
    points = result["points"]
    condition = next(iter(points[0]["scores"])) if points else ""
    selection = [point for point in points if point["factor"] == "selection"]
    codecs = [point for point in points if point["factor"] == "codec"]
    others = [f for f in _LABELS if any(point["factor"] == f for point in points)]
    panels = 2 * bool(selection or codecs) + len(others)
    if not panels:
        raise InvalidArgumentError(
            "there is no point to draw", field="plot", remedy="sweep a factor"
        )
    figure = _figure(5.0 * panels, 4.2)
    every = iter(figure.subplots(1, panels, squeeze=False)[0])
    if selection or codecs:
        axes = next(every)
        _lines(axes, selection, condition, "bytes_per_reference", "f1", result["none"]["f1"])
        for point in codecs:
            score = point["scores"][condition]["f1"]
            axes.plot([point["bytes_per_reference"]], [score], "k*")
            axes.annotate(point["codec"], (point["bytes_per_reference"], score))
        axes.set(xscale="log", xlabel="bytes per reference", ylabel=f"F1, {condition}")
        axes = next(every)
        _lines(axes, selection, condition, "tokens_kept", "loss", result["none"]["loss"])
        axes.set(xscale="log", xlabel="tokens kept", ylabel=f"loss of the answer, {condition}")
    for factor in others:
        name, label = _LABELS[factor]
        axes = next(every)
        own = [point for point in points if point["factor"] == factor]
        for each in own[0]["scores"]:
            xs = [point[name] for point in own]
            axes.plot(xs, [point["scores"][each]["f1"] for point in own], "o-", label=each)
        axes.axhline(result["none"]["f1"], color="grey", linestyle=":", label="none")
        axes.set(xlabel=label, ylabel="F1", xticks=[point[name] for point in own])
        axes.legend()
    _save(figure, file)


def _lines(
    axes: Axes,
    points: Sequence[Mapping[str, Any]],
    condition: str,
    x: str,
    y: str,
    without: float,
) -> None:
    for selector in dict.fromkeys(point["selector"] for point in points):
        own = [point for point in points if point["selector"] == selector]
        ys = [point["scores"][condition][y] for point in own]
        axes.plot([point[x] for point in own], ys, "o-", label=selector)
    axes.axhline(without, color="grey", linestyle=":", label="no memory")
    axes.legend()


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise PluginNotFoundError(
            "a plot needs matplotlib, which is not installed",
            field="plot",
            remedy="pip install 'memory3[trainer]'",
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise InvalidArgumentError(
            f"cannot write {file.name}: {error}",
            field="plot",
            remedy="give a file such as scores.png in a folder that can be written",
        ) from error
