"""From queries to hits: texts are embedded in one call and searched together with vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memory3.errors import NotFoundError
from memory3.observability import tracing
from memory3_retriever.bank.filters import Filter
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.records import Vectors
from memory3_retriever.encoder.client import EncoderClient
from memory3_retriever.indexes.base import Hit
from memory3_retriever.limits import Limit
from memory3_retriever.metrics import RetrieverMetrics


@dataclass(frozen=True, slots=True)
class TextQuery:
    """Look for what is like a text."""

    text: str


@dataclass(frozen=True, eq=False, slots=True)
class VectorQuery:
    """Look for what is near a vector, [dimensions]."""

    vector: Vectors


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """Take these references, without a search."""

    keys: tuple[bytes, ...]


Query = TextQuery | VectorQuery | NamedQuery


@dataclass(frozen=True, slots=True)
class Found:
    """What was found.

    Attributes:
        revision: The revision that was searched.
        hits: Those of each query; of searches, also what was deleted or has expired meanwhile.
        existing: The keys of hits that are still there.
    """

    revision: int
    hits: list[list[Hit]]
    existing: set[bytes]

    @property
    def keys(self) -> list[bytes]:
        """The keys of all hits, each once, in the order of the results."""
        return list(dict.fromkeys(hit.key for hits in self.hits for hit in hits))


class Searcher:
    """Answers queries over one bank at a time.

    Args:
        encoder: Embeds texts.
        checkpoint_digest: The retriever's own checkpoint.
        metrics: Measures.
    """

    def __init__(
        self, encoder: EncoderClient, checkpoint_digest: str, metrics: RetrieverMetrics
    ) -> None:
        self._encoder = encoder
        self._digest = checkpoint_digest
        self._metrics = metrics

    def find(
        self,
        bank: LiveBank,
        queries: Sequence[Query],
        k: int,
        limit: Limit,
        where: Filter = (),
    ) -> Found:
        """The hits of each query.

        Args:
            bank: Where to look.
            queries: What to look for.
            k: How many hits a text or a vector gets.
            limit: How long the encoder may take.
            where: What restricts the hits of texts and vectors; empty for nothing.

        Raises:
            CheckpointMismatchError: The bank belongs to another checkpoint or embedder.
            NotFoundError: A named reference does not exist.
            InvalidArgumentError: A vector has another length than the bank's, or is not finite.
            BackendUnavailableError: There are texts, and the encoder does not answer.
        """
        bank.require_checkpoint(self._digest)
        rows_by_query = self._vectors(bank, queries, limit)
        with (
            self._metrics.retrieval.labels("search").time(),
            tracing.span("retriever.search", num_vectors=len(rows_by_query), k=k) as span,
        ):
            revision, found = bank.search(
                np.stack(list(rows_by_query.values()))
                if rows_by_query
                else np.empty((0, bank.info.embedder.dimensions), dtype=np.float32),
                k,
                where,
            )
            span.set(revision=revision, num_hits=sum(map(len, found)))
        hits_by_query = dict(zip(rows_by_query, found, strict=True))
        named = {
            index: query.keys for index, query in enumerate(queries)
            if isinstance(query, NamedQuery)
        }  # fmt: skip
        for index, keys in named.items():
            hits_by_query[index] = [Hit(key, 0.0) for key in keys]
        hits = [hits_by_query[index] for index in range(len(queries))]
        existing = bank.store.existing({hit.key for found in hits for hit in found})
        _require_existing(bank, existing, named)
        return Found(revision, hits, existing)

    def _vectors(
        self, bank: LiveBank, queries: Sequence[Query], limit: Limit
    ) -> dict[int, Vectors]:
        """One vector for each text and vector query, by the query's place."""
        texts = {i: query.text for i, query in enumerate(queries) if isinstance(query, TextQuery)}
        rows = {
            i: query.vector for i, query in enumerate(queries) if isinstance(query, VectorQuery)
        }
        if texts:
            with self._metrics.retrieval.labels("embed").time():
                bank.require_embedder(self._encoder.info(limit).embedder)
                vectors = self._encoder.embed(list(texts.values()), "query", limit)
            rows.update(zip(texts, vectors, strict=True))
        return rows


def _require_existing(
    bank: LiveBank, existing: set[bytes], named: dict[int, tuple[bytes, ...]]
) -> None:
    for index, keys in named.items():
        for place, key in enumerate(keys):
            if key not in existing:
                raise NotFoundError(
                    f"{bank.resource} has no reference {key.hex()}",
                    field=f"queries[{index}].references.ids[{place}]",
                    remedy="use ids that adding or searching gave",
                    metadata={"resource": key.hex()},
                )
