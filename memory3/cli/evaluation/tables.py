"""Tables of evaluations for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memory3.cli.output import print_table


def print_scores(scores: Mapping[str, Mapping[str, Any]]) -> None:
    """Conditions by row, measures by column."""
    measures = list(next(iter(scores.values())))
    print_table(
        ["condition", *(f">{name}" for name in measures)],
        ([name, *(score[m] for m in measures)] for name, score in scores.items()),
    )


def print_points(result: Mapping[str, Any]) -> None:
    """Points of an ablation by row; the first is without memory."""
    points = result["points"]
    conditions = list(points[0]["scores"]) if points else []
    columns = [
        "factor", "selector", ">kept", ">references", ">layers", "codec", ">bytes/reference",
    ]  # fmt: skip
    columns += [f">{condition} {name}" for condition in conditions for name in ("f1", "loss")]
    none = result["none"]
    rows: list[list[object]] = [
        ["none", "", None, 0, None, "", 0] + [none["f1"], none["loss"]] * len(conditions)
    ]
    for point in points:
        row = [value for name, value in point.items() if name != "scores"]
        for condition in conditions:
            row += [point["scores"][condition]["f1"], point["scores"][condition]["loss"]]
        rows.append(row)
    print_table(columns, rows)
