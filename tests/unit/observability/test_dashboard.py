"""The dashboard and the rules, as Prometheus will read them: what parses, and what it is about."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.unit.observability.series import (
    SCRAPED,
    expressions,
    family_of,
    filled_in,
    panels,
    registered,
)


def _parts(expression: str) -> list[Any]:
    """All nodes of an expression; raises ValueError where it is none."""
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(expression), found.append)
    return found


def _selectors(expression: str) -> Iterator[Any]:
    for part in _parts(expression):
        if isinstance(part, promql_parser.VectorSelector):
            yield part


def _targets(root: Path) -> list[tuple[str, dict[str, Any]]]:
    return [(panel["title"], target) for panel in panels(root) for target in panel["targets"]]


def test_every_expression_parses_and_names_series_with_their_labels(root: Path) -> None:
    """Of rules and panels: syntax, types, selectors and groupings fit what is registered."""
    series = registered()
    asked = set()
    for expression in expressions(root):
        labels: set[str] = set(SCRAPED)
        for selector in _selectors(expression):
            if not selector.name.startswith("memory3_"):
                continue
            asked.add(family_of(selector.name))
            assert selector.name in series, expression
            labels |= series[selector.name]
            given = {matcher.name for matcher in selector.matchers.matchers}
            assert given <= series[selector.name] | SCRAPED, expression
        for part in _parts(expression):
            if isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
                assert set(part.modifier.labels) <= labels, expression
    assert len(asked) > 60


def test_no_metric_is_forgotten() -> None:
    """Each that a service registers is on the dashboard or in a rule: a person can see it."""
    root = Path(__file__).parents[3]
    asked = {family_of(s.name) for each in expressions(root) for s in _selectors(each)}
    assert {family_of(name) for name in registered()} - asked == set()


def test_legends_name_labels_that_are_left(root: Path) -> None:
    """After an aggregation only what it groups by has a value; a legend with another is empty."""
    for title, target in _targets(root):
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        top = promql_parser.parse(filled_in(target["expr"]))
        while isinstance(top, promql_parser.Call | promql_parser.BinaryExpr):
            top = top.args[-1] if isinstance(top, promql_parser.Call) else top.lhs
        if isinstance(top, promql_parser.AggregateExpr):
            left = set(top.modifier.labels) if top.modifier is not None else set()
            assert named <= left, (title, target["expr"])


def test_panels_have_places_of_their_own(root: Path) -> None:
    """No two panels lie over each other or share an id, and none is wider than the page."""
    text = (root / "deploy/observability/grafana/memory3.json").read_text()
    every = json.loads(text)["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    for panel in every:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    for one, other in itertools.combinations(every, 2):
        a, b = one["gridPos"], other["gridPos"]
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (one["title"], other["title"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_accepts_what_panels_ask(root: Path, tmp_path: Path) -> None:
    """What Prometheus itself says of each expression, given to it as a rule that records it."""
    recorded = [
        {"record": f"panel:{number}", "expr": filled_in(target["expr"])}
        for number, (_, target) in enumerate(_targets(root))
    ]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    checked = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(recorded)} rules found" in checked.stdout
