"""Compares libraries for an index larger than memory: recall at 5, bytes of RAM, queries/s.

Run it as `python docs/experiments/indexes.py [--vectors 100000]`; it needs faiss-cpu and usearch,
which the project does not depend on. Each library is measured in a process of its own over the same
clustered vectors; the figures are in docs/adr/0016-an-index-larger-than-memory.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

DIMENSIONS, NUM_CENTRES, NUM_QUERIES, K = 384, 1000, 500, 5
WAYS = ("hnswlib", "faiss-sq8", "faiss-sq4", "faiss-pq96", "usearch-f16", "usearch-i8")
CANDIDATES = 64


def data(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around centres of different spreads, and queries that are near some of them."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(NUM_CENTRES, DIMENSIONS)).astype(np.float32)
    spread = rng.uniform(0.3, 1.0, NUM_CENTRES).astype(np.float32)

    def some(number: int) -> np.ndarray:
        of = rng.integers(0, NUM_CENTRES, number)
        noise = rng.standard_normal((number, DIMENSIONS), dtype=np.float32)
        rows = centres[of] + spread[of, None] * noise
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return some(count), some(NUM_QUERIES)


def build(way: str, vectors: np.ndarray, path: Path) -> None:
    """Write an index."""
    library, _, form = way.partition("-")
    if library == "faiss":
        import faiss

        lists = int(4 * len(vectors) ** 0.5)
        code = {"sq8": "SQ8", "sq4": "SQ4", "pq96": "PQ96"}[form]
        index = faiss.index_factory(DIMENSIONS, f"IVF{lists},{code}", faiss.METRIC_INNER_PRODUCT)
        index.train(vectors[:: max(1, len(vectors) // (lists * 40))])
        index.add(vectors)
        faiss.write_index(index, str(path))
    elif library == "usearch":
        from usearch.index import Index

        index = Index(ndim=DIMENSIONS, metric="ip", dtype=form, connectivity=32,
                      expansion_add=200)  # fmt: skip
        index.add(np.arange(len(vectors)), vectors, threads=1)
        index.save(str(path))
    else:
        import hnswlib

        index = hnswlib.Index("ip", DIMENSIONS)
        index.init_index(len(vectors), M=32, ef_construction=200)
        index.add_items(vectors, num_threads=1)
        index.save_index(str(path))


def opened(way: str, path: Path, effort: int) -> Any:
    """A function from one query to candidates, over the file."""
    library, _, _ = way.partition("-")
    if library == "faiss":
        import faiss

        faiss.omp_set_num_threads(1)
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        index.nprobe = effort
        return lambda query: index.search(query[None], CANDIDATES)[1][0]
    if library == "usearch":
        from usearch.index import Index

        index = Index.restore(str(path), view=True)
        index.expansion_search = effort
        return lambda query: index.search(query, CANDIDATES, threads=1).keys
    import hnswlib

    index = hnswlib.Index("ip", DIMENSIONS)
    index.load_index(str(path))
    index.set_ef(effort)
    index.set_num_threads(1)
    return lambda query: index.knn_query(query, K)[0][0]


def memory() -> dict[str, int]:
    """Resident bytes of this process: its own, of mapped files, and the most that it had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    by_name = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return {key: int(by_name[key].split()[0]) * 1024 for key in ("RssAnon", "RssFile", "VmHWM")}


def searched(way: str, path: Path, base: Path, effort: int) -> dict[str, Any]:
    """The figures of one way to search, in this process."""
    queries, true = np.load(base / "queries.npy"), np.load(base / "true.npy")
    vectors = np.load(base / "vectors.npy", mmap_mode="r")
    before = memory()
    search = opened(way, path, effort)
    for query in queries[:50]:
        search(query)
    start, plain, ranked = time.perf_counter(), 0, 0
    for query, nearest in zip(queries, true, strict=True):
        found = search(query)
        plain += len(set(found[:K]) & set(nearest))
    seconds = time.perf_counter() - start
    after = memory()
    start = time.perf_counter()
    for query, nearest in zip(queries, true, strict=True):
        found = search(query)
        found = found[found >= 0]
        best = found[np.argsort(-(vectors[found] @ query))[:K]]
        ranked += len(set(best) & set(nearest))
    with_ranking = time.perf_counter() - start
    return {
        "way": way,
        "effort": effort,
        "recall": plain / (K * len(queries)),
        "recall_ranked": ranked / (K * len(queries)),
        "qps": len(queries) / seconds,
        "qps_ranked": len(queries) / with_ranking,
        "ram_bytes_per_vector": (after["RssAnon"] - before["RssAnon"]) / len(vectors),
        "file_bytes_per_vector": path.stat().st_size / len(vectors),
    }


def main() -> None:
    """Build and search in processes of their own; print one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--ways", nargs="*", default=WAYS)
    parser.add_argument("--do", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.do:
        step, way, folder, effort = options.do
        base = Path(folder)
        if step == "build":
            start = time.perf_counter()
            build(way, np.load(base / "vectors.npy"), base / way)
            peak = memory()["VmHWM"]
            told = {"way": way, "build_s": time.perf_counter() - start, "peak_bytes": peak}
        else:
            told = searched(way, base / way, base, int(effort))
        sys.stdout.write(json.dumps(told) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        vectors, queries = data(options.vectors)
        np.save(base / "vectors.npy", vectors)
        np.save(base / "queries.npy", queries)
        np.save(base / "true.npy", np.argsort(-(queries @ vectors.T), axis=1)[:, :K])
        for way in options.ways:
            efforts = (8, 16, 32, 64) if way.startswith("faiss") else (64, 128, 256)
            steps = [("build", 0), *(("search", effort) for effort in efforts)]
            for step, effort in steps:
                command = [sys.executable, __file__, "--do", step, way, folder, str(effort)]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
