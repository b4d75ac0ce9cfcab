"""The dashboard, the alert rules and their runbook name only what the services really have."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from memory3_decoder.metrics import DecoderMetrics
from memory3_encoder.metrics import EncoderMetrics
from memory3_retriever.metrics import RetrieverMetrics
from prometheus_client import CollectorRegistry

from memory3.observability.event_loop import EventLoopLag
from memory3.rpc.metrics import RpcMetrics

_SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}
# What Prometheus adds.
_SCRAPED = {"instance", "job", "le"}
# Labels that callers cannot fill as they like: each has few values, or one for each bank.
_BOUNDED = {
    *("method", "code", "outcome", "step", "origin", "reason", "finished_reason", "work"),
    *("cache", "kind", "direction", "side", "bank", "part", "digest", "version"),
    "identity",  # no more than there are tokens in the file
}


def _registries() -> list[CollectorRegistry]:
    registries = [CollectorRegistry() for _ in range(3)]
    for registry in registries:
        RpcMetrics.on(registry)
    decoder, retriever, encoder = registries
    DecoderMetrics(decoder)
    EventLoopLag(decoder)
    RetrieverMetrics.on(retriever)
    EncoderMetrics(encoder)
    return registries


def _series() -> dict[str, set[str]]:
    """The labels of every series that the services can have, by its name."""
    found: dict[str, set[str]] = {}
    for registry in _registries():
        for family in registry.collect():
            collector = registry._names_to_collectors.get(family.name)
            labels = set(getattr(collector, "_labelnames", ())) or set(
                getattr(family, "_labelnames", ())
            )
            for suffix in _SUFFIXES[family.type]:
                found.setdefault(family.name + suffix, set()).update(labels)
    return found


def _rules(root: Path) -> list[dict[str, Any]]:
    text = (root / "deploy/observability/prometheus/memory3.rules.yaml").read_text()
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def _panels(root: Path) -> list[dict[str, Any]]:
    dashboard = json.loads((root / "deploy/observability/grafana/memory3.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def _expressions(root: Path) -> Iterator[str]:
    yield from (rule["expr"] for rule in _rules(root))
    yield from (target["expr"] for panel in _panels(root) for target in panel["targets"])


def test_every_metric_asked_for_exists(root: Path) -> None:
    """With the suffix that its kind has, and only labels that it has."""
    series = _series()
    asked = 0
    for expression in _expressions(root):
        for name, selector in re.findall(r"(memory3_[a-z0-9_]+)(?:\{([^}]*)\})?", expression):
            asked += 1
            assert name in series, expression
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
            assert labels <= series[name] | _SCRAPED, expression
    assert asked > 60


def test_every_alert_has_its_runbook(root: Path) -> None:
    """A heading of the alert's name in the page, a link to it, and no heading of another."""
    page = (root / "docs/operations/alerts.md").read_text()
    names = [rule["alert"] for rule in _rules(root)]
    assert len(set(names)) == len(names) >= 16
    assert re.findall(r"^## (Memory3\w+)$", page, re.MULTILINE) == names
    for rule in _rules(root):
        link = f"docs/operations/alerts.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == link
        assert rule["labels"]["severity"] in ("page", "ticket")
    for anchor in re.findall(r"\]\(#(\w+)\)", page):
        assert anchor in {name.lower() for name in names}


def test_the_label_values_are_bounded() -> None:
    """No label of any metric is one that a caller fills as it likes."""
    used = {label for labels in _series().values() for label in labels}
    assert used <= _BOUNDED


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_accepts_the_rules(root: Path) -> None:
    """What Prometheus itself says of the file."""
    path = root / "deploy/observability/prometheus/memory3.rules.yaml"
    checked = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
