"""Where the decoder gets memories from: the retriever, and what is held from earlier answers.

It says what was found or fails; what a failure means for a sequence is ``session``'s business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from memory3.errors import BackendUnavailableError, DeadlineExceededError
from memory3.memory.reader import MemoryReader
from memory3.memory.tensors import MemoryTensors
from memory3.v1 import memory_pb2
from memory3_decoder.events import TokenSpan
from memory3_decoder.metrics import DecoderMetrics
from memory3_decoder.retrieval.cache import MemoryCache
from memory3_decoder.retrieval.client import (
    MAX_QUERIES,
    Hit,
    IdQuery,
    Retrieved,
    RetrieverClient,
    TextQuery,
)

# Ids sent along as held: about 17 KB, while a single memory saved is far more.
_MAX_HELD_IDS = 512


@dataclass(frozen=True)
class AttachedMemory:
    """A memory that a chunk reads.

    Attributes:
        reference_id: Its reference; empty where there is a span.
        score: Cosine of the chunk's query and the reference.
        tensors: The memory itself.
        reference: Text and origin, if asked for.
        span: The tokens of the call that it was written from; None for one of a bank.
    """

    reference_id: str
    score: float
    tensors: MemoryTensors
    reference: memory_pb2.Reference | None = None
    span: TokenSpan | None = None


@dataclass(frozen=True)
class Fetched:
    """What a fetch found.

    Attributes:
        memories: Those of each query, likeliest first.
        num_left_out: References found whose memory could not be had in time.
        num_calls: Calls to the retriever.
    """

    memories: tuple[tuple[AttachedMemory, ...], ...]
    num_left_out: int
    num_calls: int


class MemorySource:
    """Fetches memories by query.

    Args:
        client: The retriever; None where the decoder runs without one.
        reader: Reads envelopes of the decoder's checkpoint.
        cache: Memories held from earlier answers.
        metrics: Counts.
    """

    def __init__(
        self,
        client: RetrieverClient | None,
        reader: MemoryReader,
        cache: MemoryCache,
        metrics: DecoderMetrics,
    ) -> None:
        self._client = client
        self._reader = reader
        self._cache = cache
        self._metrics = metrics
        # Decoding envelopes is kept off the event loop and does not delay the model's steps.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memory-reader")

    @property
    def target(self) -> str:
        """The retriever's address; empty where there is none."""
        return "" if self._client is None else self._client.target

    async def close(self) -> None:
        """Close the connection and end the reading thread."""
        if self._client is not None:
            await self._client.close()
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def fetch(
        self,
        bank: str,
        queries: Sequence[TextQuery | IdQuery],
        *,
        k: int,
        timeout_s: float,
        with_references: bool,
    ) -> Fetched:
        """Find and read memories.

        Args:
            bank: Resource name of the bank.
            queries: At least one. Up to 256 make one call to the retriever.
            k: References for each text query.
            timeout_s: Seconds for everything.
            with_references: Ask for text and origin too.

        Raises:
            Memory3Error: What went wrong; nothing is returned in parts.
        """
        if self._client is None:
            raise BackendUnavailableError(
                "this decoder has no retriever",
                field="retriever",
                remedy="start the decoder with --retriever HOST:PORT, or leave bank empty",
            )
        started = time.perf_counter()
        outcome = "error"
        try:
            async with asyncio.timeout(timeout_s):
                fetched = await self._fetch(
                    self._client, bank, queries, k, timeout_s, with_references
                )
            outcome = "ok"
            return fetched
        except (TimeoutError, DeadlineExceededError) as error:
            outcome = "timeout"
            raise DeadlineExceededError(
                f"the retriever did not answer within {timeout_s:g} s",
                field="memory.retrieval_timeout",
                remedy="allow more time, or look at the retriever's load",
            ) from error
        finally:
            self._metrics.retrieval_seconds.labels(outcome).observe(time.perf_counter() - started)

    async def _fetch(
        self,
        client: RetrieverClient,
        bank: str,
        queries: Sequence[TextQuery | IdQuery],
        k: int,
        timeout_s: float,
        with_references: bool,
    ) -> Fetched:
        memories: list[tuple[AttachedMemory, ...]] = []
        num_left_out = num_calls = 0
        for start in range(0, len(queries), MAX_QUERIES):
            part = queries[start : start + MAX_QUERIES]
            is_same = False
            while not is_same:
                held = self._cache.newest(bank, _MAX_HELD_IDS)
                answer = await client.retrieve(
                    bank,
                    part,
                    k=k,
                    held_ids=list(held),
                    timeout_s=timeout_s,
                    with_references=with_references,
                )
                num_calls += 1
                # Where not, nothing is held any more, and the same is asked once again.
                is_same = self._cache.see_revision(bank, answer.revision) or not held
            tensors = await self._open(bank, held, answer)
            for hits in answer.results:
                memories.append(_attach(hits, tensors))
                num_left_out += len(hits) - len(memories[-1])
        return Fetched(tuple(memories), num_left_out, num_calls)

    async def _open(
        self, bank: str, held: dict[str, MemoryTensors], answer: Retrieved
    ) -> dict[str, MemoryTensors]:
        """The tensors of every memory of an answer, held or new, by reference id."""
        loop = asyncio.get_running_loop()
        tensors = await loop.run_in_executor(self._thread, self._read, answer.envelopes)
        num_new = len(tensors)
        for hit in (hit for hits in answer.results for hit in hits):
            if hit.status == memory_pb2.MEMORY_STATUS_HELD:
                tensors[hit.reference_id] = held[hit.reference_id]
        for reference_id, memory in tensors.items():
            self._cache.confirm(bank, reference_id, memory)
        self._metrics.memory_cache_misses.inc(num_new)
        self._metrics.memory_cache_hits.inc(len(tensors) - num_new)
        self._metrics.memory_cache_bytes.set(self._cache.num_bytes)
        return tensors

    def _read(self, envelopes: dict[str, bytes]) -> dict[str, MemoryTensors]:
        with torch.inference_mode():
            memories = self._reader.read_batch(list(envelopes.values()))
        for memory in memories:
            _ = memory.digest  # hashed here, and not on the event loop when a prompt is kept
        return dict(zip(envelopes, memories, strict=True))


def _attach(hits: Sequence[Hit], tensors: dict[str, MemoryTensors]) -> tuple[AttachedMemory, ...]:
    return tuple(
        AttachedMemory(hit.reference_id, hit.score, tensors[hit.reference_id], hit.reference)
        for hit in hits
        if hit.status in (memory_pb2.MEMORY_STATUS_SENT, memory_pb2.MEMORY_STATUS_HELD)
    )
