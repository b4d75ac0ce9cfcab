"""A bank with a snapshot and a saved index on disk; damage to its files; everything it answers."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from memory3_retriever.bank.catalog import Catalog, NewBank
from memory3_retriever.bank.records import EmbedderIdentity
from memory3_retriever.metrics import RetrieverMetrics
from memory3_retriever.retrieval.memories import MemoryReader
from prometheus_client import CollectorRegistry

from memory3.errors import CorruptDataError
from tests.unit.retriever.banks import DIGEST, item_of
from tests.unit.retriever.encoder_double import DIMENSIONS, vector_of

_LIMITS = {"map_bytes": 1 << 20, "max_bank_bytes": 1 << 30}
_QUERIES = np.stack([vector_of(f"text number {n} of source {n % 5}") for n in range(0, 200, 20)])


def make(folder: Path) -> None:
    """A bank after additions and deletions, with its snapshot and its graph saved."""
    catalog = Catalog(folder, DIGEST, **_LIMITS)
    embedder = EmbedderIdentity("lexical", "e" * 64, DIMENSIONS)
    bank = catalog.create(
        NewBank("docs", embedder, "hnsw:delta=64,m=8,ef_construction=64", "raw", "eager", "")
    )
    for start in range(0, 260, 20):
        bank.put([
            item_of(
                f"text number {n} of source {n % 5}" + " x" * (n % 7) * 90, f"s{n % 5}/{n % 40}"
            )
            for n in range(start, start + 20)
        ])  # fmt: skip
    doomed = sorted(bank.store.vector_keys())[::9]
    bank.delete(doomed)
    bank.settle()
    catalog.snapshot("docs", "kept")
    bank.put([item_of("one after the snapshot", "later")])
    catalog.close()


def harm(folder: Path, rng: Random) -> str:
    """Flip a bit of one of the files, or cut one short; says which."""
    paths = sorted(
        p for p in folder.rglob("*") if p.is_file() and p.name not in ("lock", "lock.mdb")
    )
    weights = [4 if path.parent.name == "docs" else 1 for path in paths]
    (path,) = rng.choices(paths, weights)
    size = path.stat().st_size
    if rng.random() < 0.15:
        os.truncate(path, rng.randrange(size))
        return f"cut {path.name}"
    data = bytearray(path.read_bytes())
    # Half of the flips go where structure is: at the head of a page.
    place = rng.randrange(size)
    if rng.random() < 0.5:
        place = min(size - 1, place // 4096 * 4096 + rng.randrange(200))
    data[place] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return f"flip {path.name}:{place}"


def ask(folder: Path) -> Any:
    """All answers of the bank and of what its snapshot makes.

    Raises:
        CorruptDataError: Something is known to be damaged.
    """
    catalog = Catalog(folder, DIGEST, **_LIMITS)
    try:
        catalog.open_all()
        catalog.restore("kept", "copy")
        return [_answers(catalog, name) for name in ("docs", "copy")]
    finally:
        catalog.delete("copy")
        catalog.close()


def _answers(catalog: Catalog, name: str) -> Any:
    bank = catalog.get(name)
    statistics, references = bank.store.statistics(), bank.store.page(b"", 1000)
    sources = {
        s: [r.id for r in bank.store.page(b"", 1000, s)] for s in bank.store.sources("", "", 99)
    }
    keys = [reference.key for reference in references]
    hits = bank.search(_QUERIES, 5)[1]
    memories: dict[bytes, bytes] = {}
    # Without a cache and a writer: only the bank itself is asked.
    from memory3_retriever.caches.base import NoCache

    reader = MemoryReader(NoCache(), None, RetrieverMetrics(CollectorRegistry()))  # type: ignore[arg-type]
    for start in range(0, len(keys), 64):
        memories |= dict(reader.read(bank, keys[start : start + 64])[1])
    vectors = bank.store.vectors(keys).tobytes()
    problems = bank.verify().problems
    if problems:
        raise CorruptDataError(problems[0].message)
    info = bank.info.description, bank.info.index, bank.info.create_time_ns
    return (info, statistics, references, sources, memories, vectors,
            [[hit.key for hit in each] for each in hits])  # fmt: skip
