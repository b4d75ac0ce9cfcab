"""Checkpoints with the encoders that have loaded them: a retriever may serve banks of several.

While a team moves from one checkpoint to the next, banks of both are asked: each is answered with
its own. New banks belong to the first, the main one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from memory3.checkpoint import Checkpoint
from memory3.documents.splitter import Splitter
from memory3.errors import InvalidArgumentError, SettingsError
from memory3.rpc.security.outgoing import Outgoing
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.caches.base import Cache
from memory3_retriever.encoder.client import EncoderClient
from memory3_retriever.ingest.adding import Adder
from memory3_retriever.metrics import RetrieverMetrics
from memory3_retriever.retrieval.lazy import LazyWriter
from memory3_retriever.retrieval.memories import MemoryReader
from memory3_retriever.retrieval.search import Searcher
from memory3_retriever.settings import RetrieverSettings


@dataclass(frozen=True)
class Model:
    """One checkpoint, its encoder, and what adds to, searches and reads the banks of both.

    Attributes:
        checkpoint: Whose tokenizer splits documents, and whose digest everything must carry.
        encoder: The encoder behind its address.
        splitter: Splits documents.
        adder: Adds to banks.
        searcher: Finds references.
        memories: Hands out memories.
    """

    checkpoint: Checkpoint
    encoder: EncoderClient
    splitter: Splitter
    adder: Adder
    searcher: Searcher
    memories: MemoryReader


class Models:
    """All that a retriever was given; the first is the main one.

    Args:
        models: At least one, of different checkpoints.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        self.main = models[0]
        self.all = tuple(models)
        self._by_digest = {model.checkpoint.digest: model for model in models}

    def of(self, bank: LiveBank) -> Model:
        """The one that a bank belongs to; the main one for a bank of none, which it will refuse."""
        return self._by_digest.get(bank.info.checkpoint_digest, self.main)


def open_checkpoints(settings: RetrieverSettings) -> list[tuple[Checkpoint, str]]:
    """Every checkpoint with the address of its encoder, the main one first.

    Raises:
        CheckpointError: A checkpoint cannot be used.
        InvalidArgumentError: One of ``also`` is not CHECKPOINT=HOST:PORT.
        SettingsError: A checkpoint is named twice.
    """
    opened: dict[str, tuple[Checkpoint, str]] = {}
    for folder, address in ((settings.checkpoint, settings.encoder), *_others(settings.also)):
        checkpoint = Checkpoint.open(folder)
        if checkpoint.digest in opened:
            raise SettingsError(
                f"the checkpoint {folder} is given twice",
                field="also",
                remedy="name each checkpoint once, with the one encoder that has loaded it",
            )
        opened[checkpoint.digest] = (checkpoint, address)
    return list(opened.values())


def connect_models(
    checkpoints: Sequence[tuple[Checkpoint, str]],
    settings: RetrieverSettings,
    cache: Cache,
    metrics: RetrieverMetrics,
    cleanup: contextlib.ExitStack,
) -> Models:
    """Connect every checkpoint to its encoder.

    Args:
        checkpoints: Each with the address of its encoder.
        settings: How long encoders may take.
        cache: Shared by all; its keys carry the digest.
        metrics: Shared by all.
        cleanup: Told how to close them.

    Raises:
        InvalidArgumentError: An address is none.
    """
    models = []
    for checkpoint, address in checkpoints:
        digest = checkpoint.digest
        splitter = Splitter(checkpoint.tokenizer, checkpoint.config.memory.reference_length)
        encoder = EncoderClient(
            address,
            digest,
            embed_budget_s=settings.embed_seconds,
            encode_budget_s=settings.encode_seconds,
            metrics=metrics,
            outgoing=Outgoing.of_peer(settings),
        )
        cleanup.callback(encoder.close)
        writer = LazyWriter(encoder, digest, budget_s=settings.encode_seconds)
        cleanup.callback(writer.close)
        metrics.checkpoint.labels(digest).set(1)
        memories = MemoryReader(cache, writer, metrics)
        adder = Adder(encoder, splitter, digest, metrics, memories.forget)
        searcher = Searcher(encoder, digest, metrics)
        models.append(Model(checkpoint, encoder, splitter, adder, searcher, memories))
    return Models(models)


def _others(also: str) -> list[tuple[Path, str]]:
    """The pairs in ``CHECKPOINT=HOST:PORT,…``."""
    pairs = []
    for text in filter(None, (part.strip() for part in also.split(","))):
        folder, equals, address = text.rpartition("=")
        if not (folder and equals and address):
            raise InvalidArgumentError(
                f"{text!r} is not CHECKPOINT=HOST:PORT",
                field="also",
                remedy="name a checkpoint's folder and the address of the encoder that loaded it",
            )
        pairs.append((Path(folder), address))
    return pairs
