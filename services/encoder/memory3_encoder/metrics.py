"""What the encoder counts for Prometheus, beside what every service counts of its calls."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class EncoderMetrics:
    """Counters, gauges and histograms of the engine; ``work`` is ``encode`` or ``embed``.

    Args:
        registry: Where they are registered, once each.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.references = Counter(
            "memory3_encoder_references",
            "References answered, by outcome: encoded, or the reason of the failure.",
            ["outcome"],
            registry=registry,
        )
        self.texts = Counter("memory3_encoder_texts", "Texts embedded.", registry=registry)
        self._batch_items = Histogram(
            "memory3_encoder_batch_items",
            "References or texts in a batch.",
            ["work"],
            buckets=_COUNTS,
            registry=registry,
        )
        self._batch_tokens = Histogram(
            "memory3_encoder_batch_tokens",
            "Tokens in a batch, padding included.",
            ["work"],
            buckets=_LENGTHS,
            registry=registry,
        )
        self._batch_seconds = Histogram(
            "memory3_encoder_batch_seconds",
            "Seconds that a batch took.",
            ["work"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._waiting = Gauge(
            "memory3_encoder_waiting", "Items in the queue.", ["work"], registry=registry
        )

    def batch_observer(self, work: str) -> Callable[[int, int, float], None]:
        """What a batcher calls after each batch: items, padded tokens, seconds."""
        items = self._batch_items.labels(work)
        tokens = self._batch_tokens.labels(work)
        took = self._batch_seconds.labels(work)

        def observe(num_items: int, num_tokens: int, seconds: float) -> None:
            items.observe(num_items)
            tokens.observe(num_tokens)
            took.observe(seconds)

        return observe

    def watch_queue(self, work: str, depth: Callable[[], int]) -> None:
        """Show the depth of a queue, read when Prometheus asks."""
        self._waiting.labels(work).set_function(depth)
