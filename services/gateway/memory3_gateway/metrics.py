"""What the gateway counts for Prometheus.

Labels are bounded: a route is one of the gateway's own, never a path that a caller made up.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from memory3.observability.event_loop import EventLoopLag
from memory3.rpc.metrics import ServiceMetrics

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class GatewayMetrics(ServiceMetrics):
    """Requests and the event loop's lag, beside what every service has.

    Args:
        registry: Where they are registered, once each.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.lag = EventLoopLag(registry)
        self.requests = Counter(
            "memory3_http_requests",
            "Requests answered, by status code; 499 where the caller left first.",
            ["route", "method", "code"],
            registry=registry,
        )
        self.latency = Histogram(
            "memory3_http_seconds",
            "Seconds from a request's start to the last byte of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.running = Gauge(
            "memory3_http_running", "Requests being answered now.", registry=registry
        )
        self.disconnects = Counter(
            "memory3_gateway_disconnects",
            "Answers given up because the caller had left.",
            registry=registry,
        )
        self.tokens_refused = Gauge(
            "memory3_gateway_token_files_refused",
            "New files of tokens that could not be used.",
            registry=registry,
        )
        self.prompt_tokens = Counter(
            "memory3_gateway_prompt_tokens", "Tokens of prompts answered.", registry=registry
        )
        self.completion_tokens = Counter(
            "memory3_gateway_completion_tokens", "Tokens of answers given.", registry=registry
        )
