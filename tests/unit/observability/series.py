"""Every series that the services can have, and what is asked of Prometheus about them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from memory3_decoder.metrics import DecoderMetrics
from memory3_encoder.metrics import EncoderMetrics
from memory3_gateway.metrics import GatewayMetrics
from memory3_retriever.metrics import RetrieverMetrics
from prometheus_client import CollectorRegistry

from memory3.observability.event_loop import EventLoopLag
from memory3.rpc.metrics import RpcMetrics

_SUFFIXES: Final = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}
# What Prometheus adds.
SCRAPED: Final = frozenset({"instance", "job", "le"})


def _registries() -> list[CollectorRegistry]:
    decoder, retriever, encoder, gateway = registries = [CollectorRegistry() for _ in range(4)]
    for registry in (decoder, retriever, encoder):
        RpcMetrics.on(registry)
    DecoderMetrics(decoder)
    EventLoopLag(decoder)
    RetrieverMetrics.on(retriever)
    EncoderMetrics(encoder)
    GatewayMetrics(gateway)
    return registries


def registered() -> dict[str, set[str]]:
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


def family_of(series: str) -> str:
    """The metric that a series belongs to."""
    return re.sub(r"_(total|bucket|sum|count)$", "", series)


def rules(root: Path) -> list[dict[str, Any]]:
    """The alert rules."""
    text = (root / "deploy/observability/prometheus/memory3.rules.yaml").read_text()
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def panels(root: Path) -> list[dict[str, Any]]:
    """The panels of the dashboard, without the headings between them."""
    dashboard = json.loads((root / "deploy/observability/grafana/memory3.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(root: Path) -> Iterator[str]:
    """All that rules and panels ask, with the variables of the dashboard filled in."""
    yield from (rule["expr"] for rule in rules(root))
    for panel in panels(root):
        yield from (filled_in(target["expr"]) for target in panel["targets"])


def filled_in(expression: str) -> str:
    """An expression of a panel as Grafana sends it."""
    return expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
