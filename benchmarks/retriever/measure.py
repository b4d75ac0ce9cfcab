"""All figures of one size of bank."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.records import Reference
from memory3_retriever.indexes.graph import METRIC, GraphParameters

from benchmarks.retriever import load
from benchmarks.retriever.data import envelope_of, is_stored, queries, text_of
from benchmarks.retriever.filling import BANK, K, build_index, recall_at_5, write_bank
from benchmarks.retriever.process import adding, bare_stream, made_up_encoder, retriever
from benchmarks.retriever.reading import measure_reading
from memory3.checkpoint import Checkpoint

RESOURCE = f"banks/{BANK}"
CALLERS = (1, 8, 64)
# Queries of one Search call where throughput is compared; memories of one Retrieve call.
PER_CALL, MEMORIES_PER_CALL = 64, 64
# References a second that are added where adding is paced: ten times what the encoder of a small
# checkpoint writes on one processor.
PACE = 500.0

Told = Callable[[str], None]


def measure(
    data: Path, checkpoint: Path, count: int, stored: float, index: str, seconds: float, told: Told
) -> dict[str, Any]:
    """Write a bank, build its index and measure a retriever over it.

    Args:
        data: A data folder to be made.
        checkpoint: The checkpoint that the retriever loads; only its digest matters.
        count: References.
        stored: The share of them whose memory is stored.
        index: The index's name with its parameters.
        seconds: How long each load lasts.
        told: Progress.
    """
    digest, folder = Checkpoint.open(checkpoint).digest, data / "banks" / BANK
    sizes = write_bank(folder, count, stored, index, digest, told)
    told(f"{count:,}: building the index")
    built, bank = build_index(folder)
    told(f"{count:,}: index built in {built['build_seconds']:.0f} s")
    figures: dict[str, Any] = {"references": count, "stored_share": stored, **sizes, **built}
    figures["recall_at_5"] = recall_at_5(bank, count)
    figures["bare_index_queries_per_second"] = _bare_index(bank, index, seconds)
    stored_keys = sorted(bank.store.with_memory(_key(number) for number in range(500)))
    figures["read"] = measure_reading(bank, stored_keys, checkpoint)
    bank.close()
    index_bytes = sum(p.stat().st_size for p in (folder / "index").rglob("*") if p.is_file())
    beyond = sizes["data_bytes"] - sizes["payload_bytes"] + index_bytes
    figures["index_file_bytes"] = index_bytes
    figures["disk_bytes_beyond_payload_per_reference"] = beyond / count
    with (
        made_up_encoder(digest, data) as encoder,
        retriever(checkpoint, data, data, encoder.address) as process,
    ):
        figures["restart_seconds"] = process.ready_seconds
        figures["memory_bytes_after_start"] = process.memory_bytes()
        load.wait_for_rest(process.address, RESOURCE)
        figures |= _loads(process.address, digest, count, stored, seconds, told)
        figures["memory_bytes_after_load"] = process.memory_bytes()
        figures["memory_bytes_per_reference"] = process.memory_bytes() / count
        told(f"{count:,}: adding while querying")
        figures["adding"] = _adding(process.address, seconds)
    figures["bytes"] = _bytes(data, digest, count, stored, seconds, checkpoint)
    bare, searched = figures["bare_index_queries_per_second"], figures["search"]
    figures["qps_ratio"] = searched["queries_per_second"] / bare
    figures["qps_ratio_one_query_per_call"] = searched["one_per_call"] / bare
    figures["qps_ratio_one_query_per_call_of_8_callers"] = (
        searched["one_per_call_of_8_callers"] / bare
    )
    figures["bytes_ratio"] = figures["bytes"]["ratio"]
    return figures


def _bare_index(bank: LiveBank, index: str, seconds: float) -> float:
    """Queries a second of hnswlib alone: the same vectors and parameters, one query at a time."""
    base, wanted = bank._index._state.base, queries(1000)  # type: ignore[attr-defined]
    if not hasattr(base, "native") or not isinstance(base.native, hnswlib.Index):
        return float("nan")
    if not len(base.table):
        # A bank that is searched exactly: a graph of its vectors, built for this.
        parameters = GraphParameters.parse(index.partition(":")[2] or None)
        keys = sorted(bank.store.vector_keys())
        native = hnswlib.Index(METRIC, wanted.shape[1])
        native.init_index(len(keys), M=parameters.m, ef_construction=parameters.ef_construction)
        native.add_items(bank.store.vectors(keys), num_threads=1)
        native.set_ef(parameters.ef)
        native.set_num_threads(1)
    else:
        native = base.native
    started = time.perf_counter()
    for done, query in enumerate(itertools.cycle(wanted), 1):
        native.knn_query(query, k=K)
        if (passed := time.perf_counter() - started) > seconds:
            return done / passed
    raise AssertionError


def _loads(
    address: str, digest: str, count: int, stored: float, seconds: float, told: Told
) -> dict[str, Any]:
    """Retrieve with 1, 8 and 64 callers; Search with one query and with many in a call."""
    wanted, figures = queries(2000, seed=1, share=stored), {}
    for num_callers in CALLERS:
        told(f"{count:,}: Retrieve with {num_callers} callers")
        call = load.retrieve(RESOURCE, digest, wanted)
        figures[str(num_callers)] = load.called(address, num_callers, seconds, call).figures()
    told(f"{count:,}: Search")
    one = load.called(address, 1, seconds, load.search(RESOURCE, wanted, 1)).figures()
    eight = load.called(address, 8, seconds, load.search(RESOURCE, wanted, 1)).figures()
    many = load.called(address, 2, seconds, load.search(RESOURCE, wanted, PER_CALL)).figures()
    search = {
        "one_per_call": one["calls_per_second"],
        "one_per_call_p50_ms": one["p50_ms"],
        "one_per_call_of_8_callers": eight["calls_per_second"],
        "queries_per_second": many["calls_per_second"] * PER_CALL,
        "queries_per_call": PER_CALL,
        "errors": one["errors"] + eight["errors"] + many["errors"],
    }
    return {"retrieve": figures, "search": search}


def _adding(address: str, seconds: float) -> dict[str, Any]:
    """One caller's searches alone, then beside somebody who adds: as fast as it goes, and paced."""
    call = load.search(RESOURCE, queries(2000, seed=2), 1)
    alone = load.called(address, 1, 2 * seconds, call).figures()
    figures: dict[str, Any] = {"alone_p50_ms": alone["p50_ms"], "alone_p99_ms": alone["p99_ms"]}
    for name, rate in {"paced": PACE, "full_speed": 0.0}.items():
        with adding(address, RESOURCE, rate) as added:
            beside = load.called(address, 1, 2 * seconds, call).figures()
        figures[name] = {
            "p50_ms": beside["p50_ms"],
            "p99_ms": beside["p99_ms"],
            "p99_ratio": beside["p99_ms"] / alone["p99_ms"],
            "added_per_second": added["added"] / added["seconds"],
            "errors": alone["errors"] + beside["errors"] + added["errors"],
        }
    return figures


def _bytes(
    data: Path, digest: str, count: int, stored: float, seconds: float, checkpoint: Path
) -> dict[str, float]:
    """Memory bytes a second against a bare stream of as many pieces of the same size.

    With the retriever's cache as it comes, both on one caller, taking turns.
    """
    numbers = [n for n in range(min(count, 20_000)) if is_stored(n, stored)][:2000]
    ids = [_key(n).hex() for n in numbers]
    size = len(envelope_of(0, digest))
    ours: list[float] = []
    theirs: list[float] = []
    our_costs: list[float] = []
    their_costs: list[float] = []
    with (
        retriever(checkpoint, data, data, cache="local") as process,
        bare_stream(data) as bare,
    ):
        load.wait_for_rest(process.address, RESOURCE)
        named = load.retrieve_named(RESOURCE, digest, ids, MEMORIES_PER_CALL)
        plain = load.bare(MEMORIES_PER_CALL, size)
        for _ in range(3):
            for server, call, speeds, costs in (
                (process, named, ours, our_costs),
                (bare, plain, theirs, their_costs),
            ):
                before = server.cpu_seconds()
                waits = load.called(server.address, 1, seconds / 2, call)
                speeds.append(waits.figures()["bytes_per_second"])
                costs.append((server.cpu_seconds() - before) / waits.num_bytes)
    return {
        "memory_bytes": size,
        "memories_per_call": MEMORIES_PER_CALL,
        "retrieve_bytes_per_second": float(np.median(ours)),
        "bare_bytes_per_second": float(np.median(theirs)),
        "ratio": float(np.median(ours) / np.median(theirs)),
        # The same of the servers' processor time, which a busy machine changes less.
        "processor_ratio": float(np.median(their_costs) / np.median(our_costs)),
    }


def _key(number: int) -> bytes:
    return Reference(text_of(number), source=f"{number // 100}.md").key
