"""The retriever's own Prometheus metrics, beside those that every service has."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from memory3_retriever.bank.live import LiveBank
from memory3_retriever.caches.counts import CacheReport
from memory3_retriever.storage_metrics import StorageCollector

_STEP_BUCKETS_S = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip

_by_registry: weakref.WeakKeyDictionary[CollectorRegistry, RetrieverMetrics] = (
    weakref.WeakKeyDictionary()
)


class IndexCollector(Collector):
    """The indexes of the banks that are open when Prometheus asks; deleted banks leave nothing."""

    def __init__(self) -> None:
        self.banks: Callable[[], Iterable[LiveBank]] = lambda: ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample of each bank."""
        recall = GaugeMetricFamily(
            "memory3_index_recall",
            "Share of true neighbours among the first five found, on a sample of the bank's own "
            "vectors; none for an exact index and before the first measurement.",
            labels=["bank"],
        )
        vectors = GaugeMetricFamily(
            "memory3_index_vectors",
            "Vectors of the index: in its base, in its delta, deleted of its base.",
            labels=["bank", "part"],
        )
        memory = GaugeMetricFamily(
            "memory3_index_memory_bytes", "Main memory of the index.", labels=["bank"]
        )
        rebuilding = GaugeMetricFamily(
            "memory3_index_rebuilding", "1 while a new base is being built.", labels=["bank"]
        )
        for bank in self.banks():
            name, report = bank.info.name, bank.index_report()
            state = report.state
            if report.recall is not None:
                recall.add_metric([name], report.recall.share)
            vectors.add_metric([name, "base"], state.num_vectors)
            vectors.add_metric([name, "delta"], state.num_delta)
            vectors.add_metric([name, "deleted"], state.num_deleted)
            memory.add_metric([name], state.memory_bytes)
            rebuilding.add_metric([name], state.rebuilding)
        yield from (recall, vectors, memory, rebuilding)


class CacheCollector(Collector):
    """What the caches have counted when Prometheus asks."""

    def __init__(self) -> None:
        self.reports: Callable[[], Iterable[CacheReport]] = lambda: ()

    def collect(self) -> Iterator[Metric]:
        """One sample of each count."""
        requests = CounterMetricFamily(
            "memory3_cache_requests",
            "Memories asked for, by outcome: hit, miss, failed (a fault, or too late), skipped "
            "(not asked for, because the latest try was a fault).",
            labels=["cache", "outcome"],
        )
        shared = CounterMetricFamily(
            "memory3_cache_shared",
            "Of the memories asked for, those that another caller was reading already.",
            labels=["cache"],
        )
        errors = CounterMetricFamily(
            "memory3_cache_errors", "Faults of a cache by kind.", labels=["cache", "kind"]
        )
        transferred = CounterMetricFamily(
            "memory3_cache_bytes", "Bytes of values: read, written.", labels=["cache", "direction"]
        )
        unwritten = CounterMetricFamily(
            "memory3_cache_unwritten",
            "Values not written, by reason: too_large, behind (the writer is), failed.",
            labels=["cache", "reason"],
        )
        waiting = GaugeMetricFamily(
            "memory3_cache_queue", "Batches that wait to be written.", labels=["cache"]
        )
        breakers = GaugeMetricFamily(
            "memory3_cache_breaker_open",
            "1 from a fault until a try succeeds: reading, writing.",
            labels=["cache", "side"],
        )
        held = GaugeMetricFamily(
            "memory3_cache_held_bytes",
            "Main memory that a cache in the process takes.",
            labels=["cache"],
        )
        for report in self.reports():
            counts = (
                (requests, report.requests),
                (errors, report.errors),
                (transferred, report.bytes),
                (unwritten, report.unwritten),
                (breakers, report.breakers),
            )
            for family, values in counts:
                for label, value in values.items():
                    family.add_metric([report.cache, label], value)
            shared.add_metric([report.cache], report.shared)
            waiting.add_metric([report.cache], report.waiting)
            if report.held_bytes is not None:
                held.add_metric([report.cache], report.held_bytes)
        yield from (requests, shared, errors, transferred, unwritten, waiting, breakers, held)


class RetrieverMetrics:
    """Counters and histograms of retrieval and writing, registered once in a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.retrieval = Histogram(
            "memory3_retrieval_seconds",
            "Seconds of a retrieval's steps: embed, search, write (lazy banks), read, and cache, "
            "which is a part of read.",
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
        self.encoder_calls = Histogram(
            "memory3_encoder_call_seconds",
            "Seconds of the calls to encoders, by method and status code.",
            ["method", "code"],
            registry=registry,
            buckets=_STEP_BUCKETS_S,
        )
        self.canary_checks = Counter(
            "memory3_canary_checks",
            "Memories written again and compared, by outcome: exact, close, mismatch, failed, "
            "none (nothing to check).",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("exact", "close", "mismatch", "failed", "none"):
            # There from the start: an increase from nothing to one is none to Prometheus.
            self.canary_checks.labels(outcome)
        self.canary_largest = Gauge(
            "memory3_canary_largest_difference",
            "The largest difference that a check found since the start, 0 to 1.",
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
        self.indexes = IndexCollector()
        registry.register(self.indexes)
        self.storage = StorageCollector()
        registry.register(self.storage)
        self.caches = CacheCollector()
        registry.register(self.caches)
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
