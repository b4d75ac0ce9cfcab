"""Banks: what a filter costs a search, and what durability costs an addition.

    python -m benchmarks.banks [--references 100000] [--folder FOLDER]

Ratios hold better than times: everything runs in this process, on one thread unless told otherwise.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
from memory3_retriever.bank.filters import AnyOf, Condition, Filter
from memory3_retriever.bank.ledger import NewReference
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.records import BankInfo, Durability, EmbedderIdentity, Reference
from memory3_retriever.bank.store import BankStore

DIMENSIONS = 384
K = 5
QUERIES = 200
MEMORY_BYTES = 8192


def new_bank(folder: Path, index: str = "exact") -> LiveBank:
    """An empty bank in a folder of its own."""
    path = folder / uuid.uuid4().hex
    path.mkdir()
    info = BankInfo(
        name="bench",
        uid=uuid.uuid4().hex,
        checkpoint_digest="0" * 64,
        embedder=EmbedderIdentity("random", "0" * 64, DIMENSIONS),
        index=index,
        codec="raw",
        write_policy="lazy",
        description="",
        create_time_ns=0,
    )
    store = BankStore(path, "bench", map_bytes=1 << 30, max_map_bytes=1 << 36, info=info)
    return LiveBank(store, path)


def clustered(rng: np.random.Generator, number: int, centres: np.ndarray) -> np.ndarray:
    """Unit vectors around centres, whose noise is as long as the centre."""
    rows = centres[rng.integers(0, len(centres), number)]
    rows = rows + rng.normal(size=rows.shape) / np.sqrt(DIMENSIONS)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def equals(key: str, value: str) -> Filter:
    """Only references with this value."""
    return (Condition(key, AnyOf(frozenset([value]))),)


def median_ms(
    call: Callable[[np.ndarray], object], queries: np.ndarray, plain: Callable[[np.ndarray], object]
) -> tuple[float, float]:
    """The median times of a call and of a plain one, taking turns; of the processor alone."""
    times = np.empty((len(queries), 2))
    for row, query in enumerate(queries):
        for column, way in enumerate((call, plain)):
            start = time.thread_time()
            way(query[None])
            times[row, column] = time.thread_time() - start
    first, second = np.median(times, axis=0) * 1000
    return float(first), float(second)


def bench_filters(folder: Path, number: int) -> None:
    """Recall and time of filtered searches against unfiltered ones."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(1000, DIMENSIONS))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    vectors = clustered(rng, number, centres)
    nearest = (vectors @ centres.T.astype(np.float32)).argmax(axis=1)
    metadata = {
        "1 %": [str(n % 100) for n in range(number)],
        "10 %": [str(n % 10) for n in range(number)],
        "50 %": [str(n % 2) for n in range(number)],
        # Whole clusters: where the query is in another one, the index finds none of these nearby.
        "10 %, whole clusters": [str(cluster % 10) for cluster in nearest],
    }
    bank = new_bank(folder, "hnsw")
    start = time.perf_counter()
    keys: list[bytes] = []
    for first in range(0, number, 1000):
        items = [
            NewReference(
                Reference(
                    f"text {n}",
                    metadata={name: values[n] for name, values in metadata.items()},
                ),
                vectors[n],
            )
            for n in range(first, min(first + 1000, number))
        ]
        keys.extend(item.reference.key for item in items)
        bank.put(items)
    print(f"{number} references added in {time.perf_counter() - start:.0f} s", flush=True)
    bank.settle()
    print(f"index built after {time.perf_counter() - start:.0f} s", flush=True)
    queries = clustered(rng, QUERIES, centres)
    print(f"\n{'filter':<22} {'recall@5':>8} {'ms':>8} {'plain':>8} {'ratio':>6} {'first ms':>9}")
    found = recall(bank, queries, vectors, keys, ())
    print(f"{'none':<22} {found:>8.4f}", flush=True)
    for name in metadata:
        where = equals(name, "0")
        first_times = []
        for query in queries[:5]:
            # Any change makes a bank forget what it found for filters.
            bank.put([NewReference(Reference(uuid.uuid4().hex), -query)])
            start = time.thread_time()
            bank.search(query[None], K, where)
            first_times.append((time.thread_time() - start) * 1000)
        passing = np.array([value == "0" for value in metadata[name]])
        found = recall(bank, queries, vectors, keys, where, passing)
        filtered, plain = median_ms(
            lambda query, where=where: bank.search(query, K, where),
            queries,
            lambda query: bank.search(query, K),
        )
        print(
            f"{name:<22} {found:>8.4f} {filtered:>8.3f} {plain:>8.3f} {filtered / plain:>6.2f} "
            f"{float(np.median(first_times)):>9.2f}",
            flush=True,
        )
    bank.close()


def recall(
    bank: LiveBank,
    queries: np.ndarray,
    vectors: np.ndarray,
    keys: list[bytes],
    where: Filter,
    passing: np.ndarray | None = None,
) -> float:
    """The share of the true nearest that are found."""
    num_found = 0
    for query in queries:
        scores = vectors @ query
        if passing is not None:
            scores = np.where(passing, scores, -2)
        expected = {keys[row] for row in np.argpartition(-scores, K)[:K]}
        (hits,) = bank.search(query[None], K, where)[1]
        num_found += len(expected & {hit.key for hit in hits})
    return num_found / (K * len(queries))


def bench_writers(folder: Path, seconds: float) -> None:
    """Additions of one reference each, with a memory, by one and by eight writers."""
    print(
        f"\n{'durability':<10} {'writers':>7} {'adds/s':>8} {'changes a commit':>17} {'ratio':>6}"
    )
    base = 0.0
    levels: tuple[Durability, ...] = ("fsync", "async")
    for durability in levels:
        for num_writers in (1, 8):
            bank = new_bank(folder)
            bank.update({"durability": durability})
            queue = bank.store.environment.queue
            commits, changes = queue.num_commits, queue.num_changes
            end = time.perf_counter() + seconds

            def write(bank: LiveBank = bank, end: float = end) -> None:
                rng = np.random.default_rng(threading.get_ident())
                while time.perf_counter() < end:
                    vector = rng.normal(size=DIMENSIONS).astype(np.float32)
                    reference = Reference(uuid.uuid4().hex, metadata={"lang": "de"})
                    bank.put([NewReference(reference, vector, rng.bytes(MEMORY_BYTES))])

            writers = [threading.Thread(target=write) for _ in range(num_writers)]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
            changes = queue.num_changes - changes
            rate, group = changes / seconds, changes / (queue.num_commits - commits)
            base = base or rate
            print(
                f"{durability:<10} {num_writers:>7} {rate:>8.0f} {group:>8.1f} {rate / base:>6.2f}",
                flush=True,
            )
            bank.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--references", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        bench_writers(Path(name), options.seconds)
        if options.references:
            bench_filters(Path(name), options.references)


if __name__ == "__main__":
    main()
