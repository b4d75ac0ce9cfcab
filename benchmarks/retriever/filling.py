"""A bank of a given size, written with the retriever's own store, and its index.

Encoding is left out: vectors and envelopes are made up and put where the retriever puts them. What
is measured afterwards is the retriever's own process over this data folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from memory3_retriever.bank.ledger import NewReference
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.records import BankInfo, EmbedderIdentity, Reference
from memory3_retriever.bank.store import BankStore
from memory3_retriever.indexes import layered

from benchmarks.retriever.data import (
    DIMENSIONS,
    Vectors,
    blocks,
    envelope_of,
    is_stored,
    queries,
    text_of,
)

BANK = "bench"
EMBEDDER = EmbedderIdentity("benchmark", "b" * 64, DIMENSIONS)
# An LMDB transaction holds what it writes; a few megabytes of memories at once.
_CHUNK = 512
NUM_QUERIES, K = 500, 5


def write_bank(
    folder: Path,
    count: int,
    stored_share: float,
    index: str,
    digest: str,
    told: Callable[[str], None],
) -> dict[str, float]:
    """Write references, vectors and a share of the memories; returns sizes and seconds."""
    folder.mkdir(parents=True)
    info = BankInfo(
        BANK, "0" * 32, digest, EMBEDDER, index, "raw", "eager", "a benchmark", time.time_ns()
    )
    store = BankStore(folder, BANK, map_bytes=1 << 30, max_map_bytes=1 << 40, info=info)
    started, payload, num_stored = time.perf_counter(), 0, 0
    for numbers, vectors in blocks(count):
        for start in range(0, len(numbers), _CHUNK):
            new = []
            for number, vector in zip(
                numbers[start : start + _CHUNK], vectors[start : start + _CHUNK], strict=True
            ):
                reference = Reference(text_of(number), source=f"{number // 100}.md", num_tokens=80)
                kept = stored_share >= 1 or is_stored(number, stored_share)
                envelope = envelope_of(number, digest) if kept else None
                new.append(NewReference(reference, vector, envelope))
                num_stored += kept
                payload += len(reference.text) + vector.nbytes + len(envelope or b"")
            store.put(new)
        told(f"{numbers.stop:,} of {count:,} references written")
    seconds = time.perf_counter() - started
    disk = store.environment.disk_bytes()
    store.close()
    return {
        "write_seconds": seconds,
        "num_memories": num_stored,
        "payload_bytes": payload,
        "data_bytes": disk,
    }


def build_index(folder: Path) -> tuple[dict[str, Any], LiveBank]:
    """Open the bank as the retriever does and wait for its index."""
    # Nobody searches meanwhile, so building has no reason to give way to other processes.
    layered._BACKGROUND_NICENESS = 0
    layered.REST_SECONDS = 0.0
    started, worked = time.perf_counter(), time.process_time()
    bank = LiveBank(BankStore(folder, BANK, map_bytes=1 << 30, max_map_bytes=1 << 40), folder)
    bank._index.settle()
    # As it is some seconds after the last change: nothing of size waits beside the base.
    bank.tidy()
    bank._index.settle()
    seconds, work = time.perf_counter() - started, time.process_time() - worked
    bank.settle()
    report = bank.index_report()
    figures = {
        "build_seconds": seconds,
        "build_processor_seconds": work,
        "index_memory_bytes": report.state.memory_bytes,
        "num_in_base": report.state.num_vectors,
        "num_in_delta": report.state.num_delta,
        "recall_sampled": None if report.recall is None else report.recall.share,
    }
    return figures, bank


def recall_at_5(bank: LiveBank, count: int) -> float:
    """Against exact search over all vectors, for queries that are no reference's vector."""
    wanted = queries(NUM_QUERIES)
    scores = np.full((NUM_QUERIES, K), -np.inf, dtype=np.float32)
    numbers = np.zeros((NUM_QUERIES, K), dtype=np.int64)
    for each, vectors in blocks(count):
        scores, numbers = _merged(scores, numbers, wanted @ vectors.T, each.start)
    _, found = bank.search(wanted, K)
    num_found = 0
    for row, hits in zip(numbers.tolist(), found, strict=True):
        true = {Reference(text_of(n), source=f"{n // 100}.md").key for n in row}
        num_found += len(true & {hit.key for hit in hits})
    return num_found / (NUM_QUERIES * K)


def _merged(scores: Vectors, numbers: Any, new: Vectors, first: int) -> tuple[Vectors, Any]:
    all_scores = np.concatenate([scores, new], axis=1)
    new_numbers = np.broadcast_to(np.arange(first, first + new.shape[1]), new.shape)
    all_numbers = np.concatenate([numbers, new_numbers], axis=1)
    best = np.argsort(-all_scores, axis=1)[:, :K]
    return np.take_along_axis(all_scores, best, 1), np.take_along_axis(all_numbers, best, 1)
