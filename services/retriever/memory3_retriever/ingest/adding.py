"""Adding references: encode what is new, then make it durable in one transaction.

Everything is idempotent by content. It must not know the wire.
"""

from __future__ import annotations

from collections.abc import Sequence

from memory3.documents.splitter import Splitter
from memory3.errors import Memory3Error, ReferenceBlankError
from memory3_retriever.bank.ledger import NewReference
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.records import Reference
from memory3_retriever.encoder.client import Encoded, EncoderClient
from memory3_retriever.ingest.batch import DocumentBatch
from memory3_retriever.ingest.outcomes import AddedDocument, AddedReference, NewDocument
from memory3_retriever.limits import Limit
from memory3_retriever.metrics import RetrieverMetrics


class Adder:
    """Adds to one bank at a time.

    Args:
        encoder: Encodes and embeds.
        splitter: Splits documents.
        checkpoint_digest: The retriever's own checkpoint.
        metrics: Counts.
    """

    def __init__(
        self,
        encoder: EncoderClient,
        splitter: Splitter,
        checkpoint_digest: str,
        metrics: RetrieverMetrics,
    ) -> None:
        self._encoder = encoder
        self._splitter = splitter
        self._digest = checkpoint_digest
        self._metrics = metrics

    def add_references(
        self, bank: LiveBank, references: Sequence[Reference | Memory3Error], limit: Limit
    ) -> list[AddedReference | Memory3Error]:
        """Add references that are split already.

        Args:
            bank: Where to.
            references: In place of one that was refused already, its error.
            limit: How long the encoder may take.

        Returns:
            In the order of the references, what became of each; durable.

        Raises:
            CheckpointMismatchError: The bank belongs to another checkpoint or embedder.
            BackendUnavailableError: The encoder does not answer.
            StorageFullError: There is no room; nothing was added.
        """
        self._require_same(bank, limit)
        given = [each for each in references if isinstance(each, Reference)]
        new, failures = self._encode(bank, given, limit)
        change = bank.put(new)
        fresh = set(change.added)
        outcomes: list[AddedReference | Memory3Error] = []
        for each in references:
            outcome: AddedReference | Memory3Error
            if isinstance(each, Memory3Error):
                outcome = each
            elif each.key in failures:
                outcome = failures[each.key]
            else:
                outcome = AddedReference(each.key, each.key in fresh)
                fresh.discard(each.key)
            outcomes.append(outcome)
        self._count(outcomes)
        return outcomes

    def add_documents(
        self,
        bank: LiveBank,
        documents: Sequence[NewDocument | Memory3Error],
        limit: Limit,
        *,
        replace: bool = False,
    ) -> list[AddedDocument | Memory3Error]:
        """Split documents and add their references; each document wholly or not at all.

        Args:
            bank: Where to.
            documents: In place of one that was refused already, its error.
            limit: How long the encoder may take.
            replace: Remove what the documents' sources no longer contain, and give what they still
                contain the documents' metadata.

        Returns:
            In the order of the documents, what became of each; durable.

        Raises:
            CheckpointMismatchError: The bank belongs to another checkpoint or embedder.
            BackendUnavailableError: The encoder does not answer.
            StorageFullError: There is no room; documents before this one may have been added.
        """
        self._require_same(bank, limit)
        split = [self._split(each, place) for place, each in enumerate(documents)]
        batch = DocumentBatch(split, replace=replace)
        for group in batch.groups():
            limit.check()
            references = [each for place in group for each in batch.references(place)]
            new, failures = self._encode(bank, references, limit)
            whole = batch.without(group, failures)
            kept = {each.key for place in whole for each in batch.references(place)}
            change = bank.put(
                [item for item in new if item.reference.key in kept],
                batch.keep_by_source(whole),
                batch.updates(whole),
            )
            batch.settle(whole, change)
        self._count_documents(batch.outcomes)
        return batch.outcomes

    def _split(
        self, document: NewDocument | Memory3Error, place: int
    ) -> list[Reference] | Memory3Error:
        if isinstance(document, Memory3Error):
            return document
        try:
            pieces = self._splitter.split(document.text)
        except Memory3Error as error:
            error.field = f"documents[{place}].{error.field}"
            return error
        if not pieces:
            return ReferenceBlankError(
                "the document has no text to encode",
                field=f"documents[{place}].text",
                remedy="leave it out",
            )
        return [
            Reference(
                text=piece.text,
                source=document.source,
                title=document.title,
                heading=piece.heading,
                span=(piece.start, piece.end),
                num_tokens=piece.num_tokens,
                metadata=document.metadata,
            )
            for piece in pieces
        ]

    def _require_same(self, bank: LiveBank, limit: Limit) -> None:
        bank.require_checkpoint(self._digest)
        bank.require_embedder(self._encoder.info(limit).embedder)

    def _encode(
        self, bank: LiveBank, references: Sequence[Reference], limit: Limit
    ) -> tuple[list[NewReference], dict[bytes, Memory3Error]]:
        """What has to be stored, and why some of it cannot be."""
        unique = {reference.key: reference for reference in references}
        eager = bank.info.write_policy == "eager"
        there = bank.store.with_memory(unique) if eager else bank.store.existing(unique)
        todo = [reference for key, reference in unique.items() if key not in there]
        if not eager:
            vectors = self._encoder.embed([r.search_text for r in todo], "reference", limit)
            pairs = zip(todo, vectors, strict=True)
            return [NewReference(reference, vector) for reference, vector in pairs], {}
        new: list[NewReference] = []
        failures: dict[bytes, Memory3Error] = {}
        outcomes = self._encoder.encode(todo, bank.info.codec, limit)
        for reference, outcome in zip(todo, outcomes, strict=True):
            if isinstance(outcome, Encoded):
                new.append(NewReference(reference, outcome.vector, outcome.envelope))
            else:
                failures[reference.key] = outcome
        return new, failures

    def _count_documents(self, outcomes: Sequence[AddedDocument | Memory3Error]) -> None:
        count = self._metrics.references.labels
        for outcome in outcomes:
            if isinstance(outcome, AddedDocument):
                count("added").inc(outcome.num_added)
                count("existing").inc(outcome.num_existing)
                count("removed").inc(outcome.num_removed)
            else:
                count("refused").inc()

    def _count(self, outcomes: Sequence[AddedReference | Memory3Error]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, AddedReference):
                label = "added" if outcome.added else "existing"
            else:
                label = "refused"
            self._metrics.references.labels(label).inc()
