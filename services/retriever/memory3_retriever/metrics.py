"""The retriever's own Prometheus metrics, beside those that every service has."""

from __future__ import annotations

import weakref

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_STEP_BUCKETS_S = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip

_by_registry: weakref.WeakKeyDictionary[CollectorRegistry, RetrieverMetrics] = (
    weakref.WeakKeyDictionary()
)


class RetrieverMetrics:
    """Counters and histograms of retrieval and writing, registered once in a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.retrieval = Histogram(
            "memory3_retrieval_seconds",
            "Seconds of a retrieval's steps: embed, search, write (lazy banks), read.",
            ["step"],
            registry=registry,
            buckets=_STEP_BUCKETS_S,
        )
        self.memories = Counter(
            "memory3_memories",
            "Memories asked for, by where they came from: cache, bank, held, left_out.",
            ["origin"],
            registry=registry,
        )
        self.cache_rejected = Counter(
            "memory3_cache_rejected",
            "Values from the cache that failed their checks and were taken as missing.",
            ["reason"],
            registry=registry,
        )
        self.references = Counter(
            "memory3_references",
            "References written, by outcome: added, existing, removed, refused.",
            ["outcome"],
            registry=registry,
        )
        self.banks = Gauge("memory3_banks", "Banks that are open.", registry=registry)
        self.replica_generation = Gauge(
            "memory3_replica_generation",
            "The generation of a bank that a retriever serves which follows another.",
            ["bank"],
            registry=registry,
        )
        self.replica_lag = Gauge(
            "memory3_replica_lag_seconds",
            "The age of the oldest generation that is published and not served yet.",
            ["bank"],
            registry=registry,
        )
        self.checkpoint = Gauge(
            "memory3_retriever_checkpoint",
            "Always 1; its label is the checkpoint's digest.",
            ["digest"],
            registry=registry,
        )

    @classmethod
    def on(cls, registry: CollectorRegistry) -> RetrieverMetrics:
        """The metrics of a registry, made at the first call for it."""
        if registry not in _by_registry:
            _by_registry[registry] = cls(registry)
        return _by_registry[registry]
