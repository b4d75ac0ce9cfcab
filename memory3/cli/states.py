"""How a service is: whether it lives and takes work, what it says of itself, what it counts.

What ``memory3 status`` and ``memory3 top`` look at.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from memory3.errors import Memory3Error

if TYPE_CHECKING:
    from memory3.observability.readings import Reading
    from memory3.sdk.call import ServiceName

TIMEOUT_S = 2.0

# Where `memory3 up` serves metrics, unless it is told otherwise.
METRICS_PORTS: dict[ServiceName, int] = {"decoder": 7400, "retriever": 7401, "encoder": 7402}


@dataclass
class State:
    """One service as it is now.

    Attributes:
        service: ``decoder``, ``retriever`` or ``encoder``.
        address: Where it was asked.
        live: Whether the process answers at all.
        ready: Whether it takes work.
        health: The same in words, or the reason why it could not say what it is.
        info: What it says of itself; None where it does not.
        metrics: What it counts, in few numbers; None where its metrics cannot be read.
        next: What to do about it; empty where there is nothing to do.
    """

    service: ServiceName
    address: str
    live: bool
    ready: bool
    health: str
    info: dict[str, Any] | None = None
    metrics: dict[str, float | None] | None = None
    next: list[str] = field(default_factory=list)


def metrics_address(service: ServiceName, address: str) -> str:
    """Where a service's metrics are: ``MEMORY3_METRICS_<SERVICE>``, else beside the default port.

    Args:
        service: Which one.
        address: The address that it is asked at.

    Returns:
        ``HOST:PORT``; empty where it is not known, as for a service at another address.
    """
    from memory3.sdk.addresses import DEFAULT_ADDRESSES

    named = os.environ.get(f"MEMORY3_METRICS_{service.upper()}")
    if named is not None:
        return named
    return f"127.0.0.1:{METRICS_PORTS[service]}" if address == DEFAULT_ADDRESSES[service] else ""


def look(service: ServiceName, address: str) -> State:
    """Ask a service how it is; never fails."""
    from memory3.cli.output import jsonable
    from memory3.client import Client

    live, ready = _health(address)
    health = "ready" if ready else "not ready" if live else "no answer"
    state = State(service, address, live, ready, health)
    if ready:
        addresses: dict[str, Any] = {service: address}
        with Client(**addresses, timeout=TIMEOUT_S) as client:
            ask = {
                "decoder": client.decoder_info,
                "retriever": client.retriever_info,
                "encoder": client.encoder_info,
            }[service]
            try:
                state.info = jsonable(ask())
            except Memory3Error as error:
                state.health = error.reason.lower().replace("_", " ")
    reading = read_metrics(metrics_address(service, address))
    if reading is not None:
        state.metrics = summary(service, reading)
    return state


def read_metrics(address: str) -> Reading | None:
    """A reading of an endpoint; None where there is none to be had."""
    from memory3.observability.readings import read

    if not address:
        return None
    try:
        return read(address, TIMEOUT_S)
    except Memory3Error:
        return None


def summary(service: ServiceName, reading: Reading) -> dict[str, float | None]:
    """The few numbers of a service that say whether something is wrong."""
    total, largest = reading.total, reading.largest
    if service == "decoder":
        hits = total("memory3_memory_cache_hits_total") or 0.0
        misses = total("memory3_memory_cache_misses_total") or 0.0
        return {
            "num_running": total("memory3_num_requests_running"),
            "num_waiting": total("memory3_num_requests_waiting"),
            "num_degraded": total("memory3_request_degraded_total"),
            "cache_hit_share": hits / (hits + misses) if hits + misses else None,
        }
    if service == "retriever":
        hits = total("memory3_cache_requests_total", outcome="hit") or 0.0
        asked = total("memory3_cache_requests_total") or 0.0
        return {
            "cache_hit_share": hits / asked if asked else None,
            "breaker_open": largest("memory3_cache_breaker_open"),
            "replica_lag_s": largest("memory3_replica_lag_seconds"),
            "banks_damaged": total("memory3_banks_damaged"),
            "canary_mismatches": total("memory3_canary_checks_total", outcome="mismatch"),
        }
    return {
        "num_waiting_encode": total("memory3_encoder_waiting", work="encode"),
        "num_waiting_embed": total("memory3_encoder_waiting", work="embed"),
    }


def _health(address: str) -> tuple[bool, bool]:
    """Whether it lives, and whether it is ready."""
    from memory3.rpc.health import LIVENESS, READINESS
    from memory3.rpc.probe import SERVING, ask_health

    ready = ask_health(address, READINESS, TIMEOUT_S)
    if ready == "UNAVAILABLE":
        return False, False
    live = ask_health(address, LIVENESS, TIMEOUT_S)
    # A server that answers with an error lives, even if it knows no such name.
    return live in {SERVING, "NOT_FOUND"} or ready == SERVING, ready == SERVING
