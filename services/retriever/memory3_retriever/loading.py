"""Everything that answering takes, put together and taken apart again."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from memory3.checkpoint import Checkpoint
from memory3.documents.splitter import Splitter
from memory3.rpc.logging import get_logger
from memory3_retriever.bank.catalog import Catalog
from memory3_retriever.bank.sweeper import Sweeper
from memory3_retriever.caches.base import open_cache
from memory3_retriever.encoder.client import EncoderClient
from memory3_retriever.ingest.adding import Adder
from memory3_retriever.metrics import RetrieverMetrics
from memory3_retriever.retrieval.lazy import LazyWriter
from memory3_retriever.retrieval.memories import MemoryReader
from memory3_retriever.retrieval.search import Searcher
from memory3_retriever.settings import RetrieverSettings

_log = get_logger(__name__)


@dataclass(frozen=True)
class Loaded:
    """The parts of a running retriever.

    Attributes:
        checkpoint: Whose tokenizer splits documents, and whose digest everything must carry.
        catalog: The banks.
        encoder: The encoder behind its address.
        splitter: Splits documents.
        adder: Adds to banks.
        searcher: Finds references.
        memories: Hands out memories.
        default_index: The index of banks that name none.
    """

    checkpoint: Checkpoint
    catalog: Catalog
    encoder: EncoderClient
    splitter: Splitter
    adder: Adder
    searcher: Searcher
    memories: MemoryReader
    default_index: str
    _cleanup: contextlib.ExitStack

    def close(self) -> None:
        """Close everything; banks last, after nobody can write to them any more."""
        self._cleanup.close()


def load(settings: RetrieverSettings, metrics: RetrieverMetrics) -> Loaded:
    """Open checkpoint, cache and banks; blocks.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        FailedPreconditionError: Another process uses the data folder.
        InvalidArgumentError: Cache or encoder is not named in a form that can be used.
        PluginNotFoundError: There is no such cache.
    """
    checkpoint = Checkpoint.open(settings.checkpoint)
    digest = checkpoint.digest
    splitter = Splitter(checkpoint.tokenizer, checkpoint.config.memory.reference_length)
    with contextlib.ExitStack() as cleanup:
        catalog = Catalog(
            settings.data,
            digest,
            map_bytes=settings.map_bytes,
            max_bank_bytes=settings.max_bank_bytes,
            snapshots=settings.snapshots,
        )
        cleanup.callback(catalog.close)
        cache = open_cache(settings.cache)
        cleanup.callback(cache.close)
        # No error: a cache that is away changes speed, not answers, and may be back in a moment.
        if (fault := cache.fault()) is not None:
            _log.warning("the cache cannot be used now", cache=cache.describe(), fault=fault)
        encoder = EncoderClient(
            settings.encoder,
            digest,
            embed_budget_s=settings.embed_seconds,
            encode_budget_s=settings.encode_seconds,
        )
        cleanup.callback(encoder.close)
        writer = LazyWriter(encoder, digest, budget_s=settings.encode_seconds)
        cleanup.callback(writer.close)
        memories = MemoryReader(cache, writer, metrics)
        catalog.open_all()
        cleanup.callback(Sweeper(catalog, memories.forget).close)
        metrics.checkpoint.labels(digest).set(1)
        metrics.banks.set_function(lambda: len(catalog))
        return Loaded(
            checkpoint=checkpoint,
            catalog=catalog,
            encoder=encoder,
            splitter=splitter,
            adder=Adder(encoder, splitter, digest, metrics, memories.forget),
            searcher=Searcher(encoder, digest, metrics),
            memories=memories,
            default_index=settings.index,
            _cleanup=cleanup.pop_all(),
        )
