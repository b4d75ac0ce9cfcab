"""Reading a real metrics endpoint, and what two readings say."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from memory3.errors import BackendUnavailableError
from memory3.launcher.ports import free_ports
from memory3.observability.readings import Between, Reading, read
from memory3.rpc.metrics_server import serve_metrics


def test_two_readings_of_an_endpoint() -> None:
    """Rates, shares and quantiles are of what came between, over a real socket."""
    registry = CollectorRegistry()
    asked = Counter("asked", "Asked.", ["outcome"], registry=registry)
    took = Histogram("took_seconds", "Took.", registry=registry, buckets=(1.0, 2.0, 4.0))
    Gauge("held", "Held.", registry=registry).set(7)
    took.observe(3.5)
    asked.labels("hit").inc(5)
    (port,) = free_ports(1)
    stop = serve_metrics("127.0.0.1", port, registry)
    try:
        before = read(f"127.0.0.1:{port}")
        asked.labels("hit").inc(3)
        asked.labels("miss").inc(1)
        for seconds in (0.5, 0.5, 1.5, 1.5):
            took.observe(seconds)
        after = read(f"127.0.0.1:{port}")
    finally:
        stop()
    between = Between(before, after)
    assert after.total("held") == 7
    assert after.total("nothing") is None
    assert between.growth("asked_total") == 4
    assert between.share(("asked_total", {"outcome": "hit"}), ("asked_total", {})) == 0.75
    assert between.quantile("took_seconds", 0.5) == pytest.approx(1.0)
    assert between.quantile("took_seconds", 0.75) == pytest.approx(1.5)
    assert Between(after, after).quantile("took_seconds", 0.5) is None
    rate = between.rate("asked_total")
    assert rate is not None
    assert rate > 0


def test_a_process_that_began_anew_says_nothing() -> None:
    """A counter that fell is no negative rate."""
    key = frozenset[tuple[str, str]]()
    before, after = Reading(1.0, {"n_total": {key: 9.0}}), Reading(2.0, {"n_total": {key: 1.0}})
    assert Between(before, after).rate("n_total") is None


def test_nobody_there_is_told() -> None:
    """The error names the address and the option that would help."""
    (port,) = free_ports(1)
    with pytest.raises(BackendUnavailableError, match=f"127.0.0.1:{port}"):
        read(f"127.0.0.1:{port}")
