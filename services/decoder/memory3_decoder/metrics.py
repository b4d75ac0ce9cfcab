"""The decoder's Prometheus metrics, under the names that dashboards of model servers know.

Labels are bounded: outcomes and finish reasons only, never a bank or anything a caller made up.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_FAST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_SLOW_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class DecoderMetrics:
    """Everything the decoder counts; make one for each registry.

    Args:
        registry: Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"memory3_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"memory3_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"memory3_{name}", text, labels, registry=registry, buckets=buckets)

        self.requests_running = gauge("num_requests_running", "Sequences that hold a slot.")
        self.requests_waiting = gauge("num_requests_waiting", "Sequences waiting for a slot.")
        self.preemptions = counter(
            "num_preemptions", "Times that a sequence left its slot for one that waited."
        )
        self.suspended_bytes = gauge(
            "suspended_bytes", "Bytes of keys and values of sequences that left their slots."
        )
        self.prompt_tokens_waiting = gauge(
            "prompt_tokens_waiting", "Tokens of accepted prompts that are still to be read."
        )
        self.awaiting_memories = gauge(
            "num_requests_awaiting_memories", "Running sequences that wait for their memories."
        )
        self.time_to_first_token = histogram(
            "time_to_first_token_seconds", "Seconds from arrival to the first token.", _SLOW_S
        )
        self.inter_token = histogram(
            "inter_token_latency_seconds", "Seconds between two tokens of a sequence.", _FAST_S
        )
        self.e2e = histogram(
            "e2e_request_latency_seconds", "Seconds from arrival to the last token.", _SLOW_S
        )
        self.prompt_tokens = counter("prompt_tokens", "Tokens of prompts, read or copied.")
        self.prefix_tokens = counter(
            "prefix_tokens",
            "Tokens of prompts, copied from what was read before (hit) or read.",
            "outcome",
        )
        self.prefix_bytes = gauge(
            "prefix_cache_bytes", "Bytes of keys and values kept of prompts that were read."
        )
        self.generation_tokens = counter("generation_tokens", "Tokens generated.")
        self.success = counter(
            "request_success", "Choices finished, by the reason.", "finished_reason"
        )
        self.refused = counter(
            "request_refused",
            "Requests turned away: no place in the queue, or none in time for their deadline.",
            "reason",
        )
        self.degraded = counter(
            "request_degraded", "Choices finished and scores given with memories missing."
        )
        self.retrieval_seconds = histogram(
            "retrieval_seconds", "Seconds of a retrieval, reading included.", _FAST_S, "outcome"
        )
        self.memories_attached = counter("memories_attached", "Memories attached to chunks.")
        self.memory_cache_hits = counter("memory_cache_hits", "Memories that were held already.")
        self.memory_cache_misses = counter("memory_cache_misses", "Memories that were sent.")
        self.memory_cache_bytes = gauge("memory_cache_bytes", "Bytes of memories held.")
        self.session_memories = counter(
            "session_memories", "Memories written of text that left the window."
        )
        self.session_moves = counter(
            "session_moves", "Times that text left the window of a session."
        )
        self.session_bytes = gauge(
            "session_bytes", "Bytes of session memories of sequences that have begun."
        )
        self.checkpoint = gauge("decoder_checkpoint", "1 for the checkpoint loaded.", "digest")
