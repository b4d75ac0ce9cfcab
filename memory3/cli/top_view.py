"""What ``memory3 top`` shows: the numbers of the last seconds, and how they stand on a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from memory3.cli.output import size_text
from memory3.cli.states import metrics_address, read_metrics

if TYPE_CHECKING:
    from rich.console import RenderableType

    from memory3.observability.readings import Between, Reading
    from memory3.sdk.call import ServiceName

Numbers = dict[str, float | None]

_BYTES = "bytes"

# Of each number: its place, its name for people, and how it is written.
_SHOWN: dict[str, dict[str, tuple[str, str]]] = {
    "decoder": {
        "generation_tokens_per_s": ("tokens/s generated", "{:,.1f}"),
        "prompt_tokens_per_s": ("tokens/s read", "{:,.1f}"),
        "num_running": ("running", "{:.0f}"),
        "num_waiting": ("waiting", "{:.0f}"),
        "time_to_first_token_p50_s": ("first token p50", "{:.3f} s"),
        "time_to_first_token_p99_s": ("first token p99", "{:.3f} s"),
        "inter_token_p50_s": ("between tokens p50", "{:.4f} s"),
        "finished_per_s": ("finished/s", "{:.2f}"),
        "degraded_share": ("degraded", "{:.1%}"),
        "memory_hit_share": ("memories held", "{:.1%}"),
        "prefix_hit_share": ("prompts copied", "{:.1%}"),
        "memory_cache_bytes": ("held of memories", _BYTES),
        "prefix_cache_bytes": ("held of prompts", _BYTES),
        "session_bytes": ("held of sessions", _BYTES),
        "event_loop_lag_p99_s": ("loop lag p99", "{:.4f} s"),
    },
    "retriever": {
        "retrievals_per_s": ("retrievals/s", "{:,.1f}"),
        "retrieve_p50_s": ("retrieval p50", "{:.4f} s"),
        "retrieve_p99_s": ("retrieval p99", "{:.4f} s"),
        "searches_per_s": ("searches/s", "{:,.1f}"),
        "memories_per_s": ("memories/s", "{:,.1f}"),
        "cache_hit_share": ("cache hits", "{:.1%}"),
        "added_per_s": ("references added/s", "{:,.1f}"),
        "num_banks": ("banks", "{:.0f}"),
        "banks_damaged": ("banks damaged", "{:.0f}"),
        "replica_lag_s": ("replica lag", "{:.0f} s"),
        "canary_mismatches": ("canary mismatches", "{:.0f}"),
    },
    "encoder": {
        "encodes_per_s": ("references/s", "{:,.1f}"),
        "texts_per_s": ("texts/s", "{:,.1f}"),
        "num_waiting_encode": ("waiting to encode", "{:.0f}"),
        "num_waiting_embed": ("waiting to embed", "{:.0f}"),
        "batch_p50_s": ("batch p50", "{:.4f} s"),
        "batch_p99_s": ("batch p99", "{:.4f} s"),
    },
}

_RETRIEVE = "/memory3.v1.RetrieverService/Retrieve"


class Watch:
    """Looks at one service again and again.

    Args:
        service: Which one.
        address: Where it is asked.
    """

    def __init__(self, service: ServiceName, address: str) -> None:
        self.service = service
        self.address = address
        self.metrics_at = metrics_address(service, address)
        self.seconds: float | None = None
        self.numbers: Numbers | None = None
        self.health = "no metrics"
        self._before: Reading | None = None

    def look(self) -> None:
        """Read it, and compare with the last time."""
        from memory3.observability.readings import Between

        reading = read_metrics(self.metrics_at)
        if reading is None:
            self.health, self.numbers, self._before = "no metrics", None, None
            return
        self.health = "ready" if reading.total("memory3_ready") else "not ready"
        # The first look compares with itself: gauges are there, rates are nothing.
        between = Between(self._before or reading, reading)
        self.seconds = between.after.taken - between.before.taken
        self.numbers = _NUMBERS[self.service](between)
        self._before = reading

    def as_json(self) -> dict[str, Any]:
        """What a program reads."""
        return {
            "service": self.service,
            "address": self.address,
            "metrics": self.metrics_at,
            "health": self.health,
            "seconds": self.seconds,
            "numbers": self.numbers,
        }


def render(watches: list[Watch], interval: float) -> RenderableType:
    """The three services side by side."""
    from rich.columns import Columns
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    panels = []
    for watch in watches:
        table = Table.grid(padding=(0, 2))
        table.add_column()
        table.add_column(justify="right", min_width=10)
        for name, (label, form) in _SHOWN[watch.service].items():
            value = (watch.numbers or {}).get(name)
            table.add_row(label, "–" if value is None else _written(value, form))
        colour = {"ready": "green", "not ready": "yellow"}.get(watch.health, "red")
        where = watch.metrics_at or f"set MEMORY3_METRICS_{watch.service.upper()}"
        panels.append(
            Panel(
                Group(Text(watch.health, style=colour), Text(where, style="dim"), table),
                title=watch.service,
                width=40,
            )
        )
    clock = time.strftime("%H:%M:%S")
    foot = Text(f"{clock}  over the last {interval:g} s; Ctrl-C leaves", style="dim")
    return Group(Columns(panels), foot)


def _written(value: float, form: str) -> str:
    return size_text(value) if form == _BYTES else form.format(value)


def _decoder(between: Between) -> Numbers:
    now, rate, quantile = between.after.total, between.rate, between.quantile
    hits, misses = "memory3_memory_cache_hits_total", "memory3_memory_cache_misses_total"
    first, prefix = "memory3_time_to_first_token_seconds", "memory3_prefix_tokens_total"
    return {
        "generation_tokens_per_s": rate("memory3_generation_tokens_total"),
        "prompt_tokens_per_s": rate("memory3_prompt_tokens_total"),
        "num_running": now("memory3_num_requests_running"),
        "num_waiting": now("memory3_num_requests_waiting"),
        "time_to_first_token_p50_s": quantile(first, 0.5),
        "time_to_first_token_p99_s": quantile(first, 0.99),
        "inter_token_p50_s": quantile("memory3_inter_token_latency_seconds", 0.5),
        "finished_per_s": rate("memory3_request_success_total"),
        "degraded_share": between.share(
            ("memory3_request_degraded_total", {}), ("memory3_request_success_total", {})
        ),
        "memory_hit_share": between.share((hits, {}), (hits, {}), (misses, {})),
        "prefix_hit_share": between.share((prefix, {"outcome": "hit"}), (prefix, {})),
        "memory_cache_bytes": now("memory3_memory_cache_bytes"),
        "prefix_cache_bytes": now("memory3_prefix_cache_bytes"),
        "session_bytes": now("memory3_session_bytes"),
        "event_loop_lag_p99_s": quantile("memory3_event_loop_lag_seconds", 0.99),
    }


def _retriever(between: Between) -> Numbers:
    now, rate, quantile = between.after.total, between.rate, between.quantile
    asked = "memory3_cache_requests_total"
    return {
        "retrievals_per_s": rate("memory3_rpc_requests_total", method=_RETRIEVE),
        "retrieve_p50_s": quantile("memory3_rpc_seconds", 0.5, method=_RETRIEVE),
        "retrieve_p99_s": quantile("memory3_rpc_seconds", 0.99, method=_RETRIEVE),
        "searches_per_s": rate("memory3_retrieval_seconds_count", step="search"),
        "memories_per_s": rate("memory3_memories_total"),
        "cache_hit_share": between.share((asked, {"outcome": "hit"}), (asked, {})),
        "added_per_s": rate("memory3_references_total", outcome="added"),
        "num_banks": now("memory3_banks"),
        "banks_damaged": now("memory3_banks_damaged"),
        "replica_lag_s": between.after.largest("memory3_replica_lag_seconds"),
        "canary_mismatches": now("memory3_canary_checks_total", outcome="mismatch"),
    }


def _encoder(between: Between) -> Numbers:
    now, rate, quantile = between.after.total, between.rate, between.quantile
    batch = "memory3_encoder_batch_seconds"
    return {
        "encodes_per_s": rate("memory3_encoder_references_total"),
        "texts_per_s": rate("memory3_encoder_texts_total"),
        "num_waiting_encode": now("memory3_encoder_waiting", work="encode"),
        "num_waiting_embed": now("memory3_encoder_waiting", work="embed"),
        "batch_p50_s": quantile(batch, 0.5, work="encode"),
        "batch_p99_s": quantile(batch, 0.99, work="encode"),
    }


_NUMBERS = {"decoder": _decoder, "retriever": _retriever, "encoder": _encoder}
