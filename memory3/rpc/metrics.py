"""The Prometheus metrics that every service has: requests, their codes, their latency.

Labels are bounded: only methods that the server really has are counted, never a name that a caller
made up. ``memory3.rpc.metrics_server`` serves them.
"""

from __future__ import annotations

import weakref

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

import memory3
from memory3.rpc.health import Lifecycle, Phase

_LATENCY_BUCKETS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip

_by_registry: weakref.WeakKeyDictionary[CollectorRegistry, RpcMetrics] = weakref.WeakKeyDictionary()


class ServiceMetrics:
    """Whether a service takes work, and which version it is; whatever it speaks.

    Args:
        registry: Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ready = Gauge(
            "memory3_ready",
            "1 while the service takes work: not while it loads or drains.",
            registry=registry,
        )
        build = Gauge(
            "memory3_build_info",
            "Always 1; its label is the version that runs.",
            ["version"],
            registry=registry,
        )
        build.labels(memory3.__version__).set(1)

    def watch(self, lifecycle: Lifecycle) -> None:
        """Show the phase of a server, read when Prometheus asks."""
        self._ready.set_function(lambda: float(lifecycle.phase is Phase.READY))


class RpcMetrics(ServiceMetrics):
    """Counters and histograms of calls, registered once in a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.requests = Counter(
            "memory3_rpc_requests",
            "Calls answered, by status code.",
            ["method", "code"],
            registry=registry,
        )
        self.latency = Histogram(
            "memory3_rpc_seconds",
            "Seconds from a call's start to its last response.",
            ["method"],
            registry=registry,
            buckets=_LATENCY_BUCKETS_S,
        )
        self.running = Gauge(
            "memory3_rpc_running", "Calls being answered now.", ["method"], registry=registry
        )
        self._identities = Counter(
            "memory3_rpc_identity_requests",
            "Calls answered, by the id of the caller's token; empty where there was no valid one.",
            ["identity", "code"],
            registry=registry,
        )
        self.tokens_refused = Gauge(
            "memory3_rpc_token_files_refused",
            "New files of tokens that could not be used, so that the old one stayed in force.",
            registry=registry,
        )

    def count_identity(self, name: str, code: str) -> None:
        """Count a call of an identity; there are no more of these than tokens in the file."""
        self._identities.labels(name, code).inc()

    @classmethod
    def on(cls, registry: CollectorRegistry) -> RpcMetrics:
        """The metrics of a registry, made at the first call for it."""
        if registry not in _by_registry:
            _by_registry[registry] = cls(registry)
        return _by_registry[registry]
