"""Five memories from each place that they may come from, side by side in one process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import cast

import torch
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.caches.base import open_cache
from memory3_retriever.caches.redis import RedisCache
from memory3_retriever.metrics import RetrieverMetrics
from memory3_retriever.retrieval.memories import MemoryReader
from prometheus_client import CollectorRegistry

from benchmarks.timing import seconds_side_by_side
from memory3.checkpoint import Checkpoint
from memory3.memory.envelope import verify
from memory3.memory.writer import MemoryWriter
from tests.redis_server import RedisServer

NUM_MEMORIES = 5


def measure_reading(bank: LiveBank, keys: list[bytes], checkpoint: Path) -> dict[str, float]:
    """Milliseconds for five memories: local cache, Redis, the bank, LMDB alone, writing them anew.

    Writing is the checkpoint's own model over five references of full length on one thread, without
    the way to the encoder and back. A small model; a larger one only takes longer.
    """
    digest, keys = bank.info.checkpoint_digest, keys[:NUM_MEMORIES]
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            caches = {name: open_cache(name) for name in ("local", "none")}
            caches["redis"] = open_cache(f"redis:{server.patient_url}")
            readers = {name: _reader(cache) for name, cache in caches.items()}
            for reader in readers.values():
                _read(reader, bank, keys)
            cast(RedisCache, caches["redis"]).settle()

            def plain() -> None:
                for envelope in bank.store.memories(keys).values():
                    verify(envelope, checkpoint_digest=digest)

            took = seconds_side_by_side(
                {
                    "cache_hit": lambda: _read(readers["local"], bank, keys),
                    "redis_hit": lambda: _read(readers["redis"], bank, keys),
                    "bank_read": lambda: _read(readers["none"], bank, keys),
                    "lmdb_read": plain,
                },
                rounds=201,
            )
            assert readers["redis"].num_from_bank == NUM_MEMORIES, "Redis did not answer in time"
            caches["redis"].close()
        finally:
            server.kill()
    took |= _writing(checkpoint)
    return {f"{name}_ms": 1000 * seconds for name, seconds in took.items()} | {
        "cache_hit_over_bank_read": took["cache_hit"] / took["bank_read"],
        "cache_hit_over_writing": took["cache_hit"] / took["writing"],
        "redis_hit_minus_lmdb_read_ms": 1000 * (took["redis_hit"] - took["lmdb_read"]),
    }


def _reader(cache: object) -> MemoryReader:
    metrics = RetrieverMetrics.on(CollectorRegistry())
    return MemoryReader(cache, None, metrics)  # type: ignore[arg-type]


def _read(reader: MemoryReader, bank: LiveBank, keys: list[bytes]) -> int:
    _, memories = reader.read(bank, keys)
    return sum(len(envelope) for _, envelope in memories)


def _writing(path: Path) -> dict[str, float]:
    torch.set_num_threads(1)
    checkpoint = Checkpoint.open(path)
    writer = MemoryWriter(
        checkpoint.load_model(dtype=torch.float32, packed=True), checkpoint.config
    )
    length = checkpoint.config.memory.reference_length
    references = [[7 + n % 50 for n in range(length)] for _ in range(NUM_MEMORIES)]
    return seconds_side_by_side({"writing": lambda: writer.write(references)}, rounds=11)
