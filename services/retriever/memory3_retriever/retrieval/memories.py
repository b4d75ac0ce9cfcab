"""Handing out memories: from the cache, else from the bank, else written at last.

Every envelope is verified on its way into the process, wherever it came from. The cache's mistakes
only cost time; the bank's are errors.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from memory3.errors import CheckpointMismatchError, CorruptDataError, UnavailableError
from memory3.memory.envelope import verify
from memory3.observability import tracing
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.records import corrupt
from memory3_retriever.caches.base import Cache, MemoryKey
from memory3_retriever.metrics import RetrieverMetrics
from memory3_retriever.retrieval.lazy import LazyWriter

# Memories held at once while an answer is streamed.
BATCH = 64


class _Patience:
    """How much longer one retrieval waits for each cache: in all no longer than its budget."""

    def __init__(self) -> None:
        self._waited_s: dict[Cache, float] = {}

    def get_many(self, cache: Cache, keys: Sequence[MemoryKey]) -> dict[MemoryKey, bytes]:
        """The values that come in what is left of the time."""
        waited_s = self._waited_s.get(cache, 0.0)
        if not keys or waited_s >= cache.budget_s:
            return {}
        begun = time.monotonic()
        found = cache.get_many(keys, cache.budget_s - waited_s)
        self._waited_s[cache] = waited_s + time.monotonic() - begun
        return found


class MemoryReader:
    """Reads memories through a cache.

    Args:
        cache: Asked first.
        writer: Writes the missing ones of lazy banks.
        metrics: Counts.
    """

    def __init__(self, cache: Cache, writer: LazyWriter, metrics: RetrieverMetrics) -> None:
        self.cache = cache
        self._writer = writer
        self._metrics = metrics
        # The same counts as in the metrics, for GetInfo; a lost update does no harm.
        self.num_from_cache = 0
        self.num_from_bank = 0

    def ensure(self, bank: LiveBank, keys: set[bytes], wait_s: float) -> tuple[set[bytes], bool]:
        """Those of the keys whose memory is there, and whether missing ones were waited for.

        Raises:
            CheckpointMismatchError: Missing ones cannot be written by this encoder.
        """
        there = bank.store.with_memory(keys)
        if there == keys:
            return there, False
        with (
            self._metrics.retrieval.labels("write").time(),
            tracing.span("retriever.write", num_missing=len(keys - there)),
        ):
            self._writer.write(bank, keys - there, wait_s)
        return bank.store.with_memory(keys), True

    def read(
        self, bank: LiveBank, keys: Sequence[bytes]
    ) -> tuple[set[bytes], Iterator[tuple[bytes, bytes]]]:
        """The verified envelopes of keys whose memory is there.

        The first `BATCH` are read at once, before the caller has promised any of them; the rest a
        few at a time.

        Returns:
            Those of the first that were deleted in the meantime, and the envelopes of the others.

        Raises:
            CorruptDataError: One of them is damaged on disk.
            CheckpointMismatchError: One of them was written by another checkpoint.
            UnavailableError: One behind the first was deleted in the meantime.
        """
        patience = _Patience()
        first = self._read_block(bank, keys[:BATCH], patience)
        return set(keys[:BATCH]) - first.keys(), self._in_turn(bank, first, keys, patience)

    def _in_turn(
        self,
        bank: LiveBank,
        first: dict[bytes, bytes],
        keys: Sequence[bytes],
        patience: _Patience,
    ) -> Iterator[tuple[bytes, bytes]]:
        yield from ((key, first[key]) for key in keys[:BATCH] if key in first)
        for start in range(BATCH, len(keys), BATCH):
            block = keys[start : start + BATCH]
            envelopes = self._read_block(bank, block, patience)
            for key in block:
                if key not in envelopes:
                    raise UnavailableError(
                        f"reference {key.hex()} was deleted while it was being read",
                        field="bank",
                        remedy="retrieve again",
                        retry_after_s=0.0,
                    )
                yield key, envelopes[key]

    def count_unsent(self, num_held: int, num_left_out: int) -> None:
        """Note the hits whose memories were not sent."""
        self._count("held", num_held)
        self._count("left_out", num_left_out)

    def forget(self, bank: LiveBank, keys: Sequence[bytes]) -> None:
        """Take memories out of the cache."""
        self.cache.delete_many([_cache_key(bank, key) for key in keys])

    def cached(self, bank: LiveBank, keys: Sequence[bytes]) -> bool:
        """Whether the cache has any of these memories."""
        return bool(self.cache.get_many([_cache_key(bank, key) for key in keys]))

    @property
    def writer(self) -> LazyWriter:
        """What writes missing memories."""
        return self._writer

    def _read_block(
        self, bank: LiveBank, keys: Sequence[bytes], patience: _Patience
    ) -> dict[bytes, bytes]:
        """The envelopes of keys; one that was deleted has none."""
        with (
            self._metrics.retrieval.labels("read").time(),
            tracing.span("retriever.read", num_memories=len(keys)) as span,
        ):
            with self._metrics.retrieval.labels("cache").time():
                envelopes = self._from_cache(bank, keys, patience)
            missing = [key for key in keys if key not in envelopes]
            stored = bank.store.memories(missing) if missing else {}
            for key, envelope in stored.items():
                self._verify_stored(bank, key, envelope)
            if stored:
                self._keep(bank, stored)
            span.set(num_from_cache=len(envelopes), num_from_bank=len(stored))
        self._count("cache", len(envelopes))
        self._count("bank", len(stored))
        self.num_from_cache += len(envelopes)
        self.num_from_bank += len(stored)
        return {**envelopes, **stored}

    def _keep(self, bank: LiveBank, stored: dict[bytes, bytes]) -> None:
        self.cache.put_many({_cache_key(bank, key): stored[key] for key in stored})
        # Deleting empties the cache after the bank: what went between reading and keeping would
        # stay in the cache, though never be served.
        gone = stored.keys() - bank.store.with_memory(stored)
        if gone:
            self.forget(bank, sorted(gone))

    def _from_cache(
        self, bank: LiveBank, keys: Sequence[bytes], patience: _Patience
    ) -> dict[bytes, bytes]:
        missing = {_cache_key(bank, key): key for key in keys}
        envelopes: dict[bytes, bytes] = {}
        for depth, cache in enumerate(self.cache.layers):
            found = patience.get_many(cache, list(missing))
            # What never left the process was verified when it was put there.
            sound = found if cache.in_process else self._sound(bank, cache, found)
            for nearer in self.cache.layers[:depth] if sound else ():
                nearer.put_many(sound)
            envelopes |= {missing.pop(name): envelope for name, envelope in sound.items()}
        return envelopes

    def _sound(
        self, bank: LiveBank, cache: Cache, found: Mapping[MemoryKey, bytes]
    ) -> dict[MemoryKey, bytes]:
        sound: dict[MemoryKey, bytes] = {}
        for name, envelope in found.items():
            try:
                verify(envelope, checkpoint_digest=bank.info.checkpoint_digest)
            except (CorruptDataError, CheckpointMismatchError) as error:
                self._metrics.cache_rejected.labels(error.reason).inc()
                cache.delete_many([name])
            else:
                sound[name] = envelope
        return sound

    def _verify_stored(self, bank: LiveBank, key: bytes, envelope: bytes) -> None:
        try:
            verify(envelope, checkpoint_digest=bank.info.checkpoint_digest)
        except CorruptDataError as error:
            raise corrupt("memory", key.hex(), error.message) from error

    def _count(self, origin: str, amount: int) -> None:
        if amount:
            self._metrics.memories.labels(origin).inc(amount)


def _cache_key(bank: LiveBank, key: bytes) -> MemoryKey:
    return MemoryKey(bank.info.uid, bank.info.checkpoint_digest, key.hex())
