"""Adding references: encode what is new, then make it durable in one transaction.

Everything is idempotent by content. It must not know the wire.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from functools import partial

from memory3.documents.splitter import Splitter
from memory3.errors import Memory3Error, ReferenceBlankError
from memory3_retriever.bank.ledger import Change, NewReference
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.records import Reference
from memory3_retriever.bank.store import AlreadyThereError
from memory3_retriever.encoder.client import Encoded, EncoderClient
from memory3_retriever.ingest.batch import DocumentBatch
from memory3_retriever.ingest.duplicates import already_exists, refused_documents
from memory3_retriever.ingest.outcomes import (
    AddedDocument,
    AddedReference,
    DuplicatePolicy,
    NewDocument,
)
from memory3_retriever.ingest.pipeline import Adding, Step
from memory3_retriever.limits import Limit
from memory3_retriever.metrics import RetrieverMetrics


@dataclass(slots=True)
class _Prepared:
    """What a step has encoded.

    Attributes:
        wanted: All references that must be in the bank afterwards.
        new: Those that are to be stored.
        failures: Why some of them cannot be, by key.
        there: Keys that must not be in the bank and are.
        refused: Documents that are refused for that, by place.
    """

    wanted: Sequence[Reference]
    new: list[NewReference]
    failures: dict[bytes, Memory3Error]
    there: set[bytes]
    refused: Mapping[int, Memory3Error] = field(default_factory=dict)


class Adder:
    """Adds to one bank at a time.

    Args:
        encoder: Encodes and embeds.
        splitter: Splits documents.
        checkpoint_digest: The retriever's own checkpoint.
        metrics: Counts.
        forget: Takes memories out of the cache that were written anew.
    """

    def __init__(
        self,
        encoder: EncoderClient,
        splitter: Splitter,
        checkpoint_digest: str,
        metrics: RetrieverMetrics,
        forget: Callable[[LiveBank, Sequence[bytes]], None],
    ) -> None:
        self._encoder = encoder
        self._splitter = splitter
        self._digest = checkpoint_digest
        self._metrics = metrics
        self._forget = forget

    def add_references(
        self,
        bank: LiveBank,
        references: Sequence[Reference | Memory3Error],
        limit: Limit,
        *,
        duplicates: DuplicatePolicy = "skip",
    ) -> list[AddedReference | Memory3Error]:
        """Add references that are split already.

        Args:
            bank: Where to.
            references: In place of one that was refused already, its error.
            limit: How long the encoder may take.
            duplicates: What becomes of those that are there already.

        Returns:
            In the order of the references, what became of each; durable.

        Raises:
            CheckpointMismatchError: The bank belongs to another checkpoint or embedder.
            BackendUnavailableError: The encoder does not answer.
            StorageFullError: There is no room; nothing was added.
            QuotaExceededError: The bank may not take so much; nothing was added.
        """
        return self.adding_references(bank, references, limit, duplicates=duplicates).run()

    def adding_references(
        self,
        bank: LiveBank,
        references: Sequence[Reference | Memory3Error],
        limit: Limit,
        *,
        duplicates: DuplicatePolicy = "skip",
    ) -> Adding[AddedReference | Memory3Error]:
        """As ``add_references``, in steps of which the first part may be done ahead."""
        self._require_ready(bank, limit)
        given = [each for each in references if isinstance(each, Reference)]
        refusing, grows = duplicates == "fail", duplicates != "overwrite"
        outcomes: list[AddedReference | Memory3Error] = []

        def prepare() -> _Prepared:
            there = bank.store.existing(each.key for each in given) if refusing else set()
            missing = [each for each in given if each.key not in there]
            new, failures = self._encode(bank, missing, limit, duplicates, grows=grows)
            return _Prepared(missing, new, failures, there)

        def finish(prepared: _Prepared) -> None:
            self._complete(bank, prepared, limit, duplicates, grows=grows)
            there = prepared.there
            while True:
                left = [item for item in prepared.new if item.reference.key not in there]
                try:
                    refuse = {item.reference.key for item in left} if refusing else set()
                    change = self._put(bank, left, {}, duplicates, refuse=refuse)
                    break
                except AlreadyThereError as error:
                    there |= error.keys
            fresh = set(change.added)
            for place, each in enumerate(references):
                outcome: AddedReference | Memory3Error
                if isinstance(each, Memory3Error):
                    outcome = each
                elif each.key in prepared.failures:
                    outcome = prepared.failures[each.key]
                elif each.key in there:
                    outcome = already_exists(each.key, f"references[{place}]")
                else:
                    outcome = AddedReference(each.key, each.key in fresh)
                    fresh.discard(each.key)
                    # Where there must be no second one, the first makes the next of its like one.
                    there |= {each.key} if refusing else set()
                outcomes.append(outcome)
            self._count(outcomes)

        return Adding([Step(prepare, finish)], lambda: outcomes)

    def adding_documents(
        self,
        bank: LiveBank,
        documents: Sequence[NewDocument | Memory3Error],
        limit: Limit,
        *,
        replace: bool = False,
        duplicates: DuplicatePolicy = "skip",
    ) -> Adding[AddedDocument | Memory3Error]:
        """Split documents and add their references; each document wholly or not at all.

        Args:
            bank: Where to.
            documents: In place of one that was refused already, its error.
            limit: How long the encoder may take.
            replace: Remove what the documents' sources no longer contain, and give what they still
                contain the documents' metadata and expiry.
            duplicates: What becomes of references that are there already.

        Returns:
            The steps, and in the order of the documents what became of each.

        Raises:
            CheckpointMismatchError: The bank belongs to another checkpoint or embedder.
            BackendUnavailableError: The encoder does not answer; also a step.
            StorageFullError: By a step: there is no room; earlier ones are durable.
            QuotaExceededError: By a step: the bank may not take so much; the same holds.
        """
        self._require_ready(bank, limit)
        split = [self._split(each, place) for place, each in enumerate(documents)]
        batch = DocumentBatch(split, replace=replace)
        ttls = [each.ttl_ns if isinstance(each, NewDocument) else None for each in documents]
        grows = duplicates != "overwrite" and not replace

        def prepare(group: Sequence[int]) -> _Prepared:
            limit.check()
            refused: dict[int, Memory3Error] = {}
            there: set[bytes] = set()
            if duplicates == "fail":
                there = bank.store.existing(each.key for each in _all_of(batch, group))
                refused = refused_documents(batch, group, there)
            missing = _all_of(batch, [place for place in group if place not in refused])
            new, failures = self._encode(bank, missing, limit, duplicates, grows=grows)
            return _Prepared(missing, new, failures, there, refused)

        def finish(group: Sequence[int], prepared: _Prepared) -> None:
            self._complete(bank, prepared, limit, duplicates, grows=grows)
            there = prepared.there
            whole = batch.without(group, prepared.failures, prepared.refused)
            while True:
                ttl_by_key = {
                    each.key: ttls[place] for place in whole for each in batch.references(place)
                }
                try:
                    change = self._put(
                        bank,
                        [item for item in prepared.new if item.reference.key in ttl_by_key],
                        ttl_by_key,
                        duplicates,
                        keep_by_source=batch.keep_by_source(whole),
                        update=batch.updates(whole),
                        refuse=ttl_by_key.keys() if duplicates == "fail" else (),
                    )
                    break
                except AlreadyThereError as error:
                    there |= error.keys
                    whole = batch.without(whole, {}, refused_documents(batch, whole, there))
            batch.settle(whole, change)

        def outcomes() -> list[AddedDocument | Memory3Error]:
            self._count_documents(batch.outcomes)
            return batch.outcomes

        steps = [Step(partial(prepare, group), partial(finish, group)) for group in batch.groups()]
        return Adding(steps, outcomes)

    def _complete(
        self,
        bank: LiveBank,
        prepared: _Prepared,
        limit: Limit,
        duplicates: DuplicatePolicy,
        *,
        grows: bool,
    ) -> None:
        """Encode what was there when the step was prepared and has gone since.

        A step before it may have replaced what this one still contains.
        """
        ready = {item.reference.key for item in prepared.new} | prepared.failures.keys()
        others = [each for each in prepared.wanted if each.key not in ready]
        if others:
            new, failures = self._encode(bank, others, limit, duplicates, grows=grows)
            prepared.new.extend(new)
            prepared.failures.update(failures)

    def _put(
        self,
        bank: LiveBank,
        new: Sequence[NewReference],
        ttl_by_key: Mapping[bytes, int | None],
        duplicates: DuplicatePolicy,
        *,
        keep_by_source: Mapping[str, set[bytes]] | None = None,
        update: Iterable[Reference] = (),
        refuse: Collection[bytes] = (),
    ) -> Change:
        """Store references that live from now on."""
        now, default = time.time_ns(), bank.info.default_ttl_ns

        def dated(reference: Reference) -> Reference:
            ttl = ttl_by_key.get(reference.key)
            ttl = default if ttl is None else ttl
            if not ttl or reference.expire_time_ns:
                return reference
            return changed(reference, expire_time_ns=now + ttl)

        change = bank.put(
            [changed(item, reference=dated(item.reference)) for item in new],
            keep_by_source,
            [dated(reference) for reference in update],
            overwrite=duplicates == "overwrite",
            refuse=refuse,
        )
        if change.rewritten:
            self._forget(bank, change.rewritten)
        return change

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

    def _require_ready(self, bank: LiveBank, limit: Limit) -> None:
        bank.require_checkpoint(self._digest)
        bank.require_embedder(self._encoder.info(limit).embedder)

    def _encode(
        self,
        bank: LiveBank,
        references: Sequence[Reference],
        limit: Limit,
        duplicates: DuplicatePolicy,
        *,
        grows: bool,
    ) -> tuple[list[NewReference], dict[bytes, Memory3Error]]:
        """What has to be stored, and why some of it cannot be."""
        # Of those that are alike, the first stays; or the last is what the others become.
        in_turn = references if duplicates == "overwrite" else reversed(references)
        unique = {reference.key: reference for reference in in_turn}
        eager = bank.info.write_policy == "eager"
        there: set[bytes] = set()
        if duplicates != "overwrite":
            there = bank.store.existing(unique)
            there &= bank.store.with_memory(there) if eager else there
        missing = [reference for key, reference in unique.items() if key not in there]
        if missing and grows:
            bank.require_room()
        if not eager:
            vectors = self._encoder.embed([r.search_text for r in missing], "reference", limit)
            pairs = zip(missing, vectors, strict=True)
            return [NewReference(reference, vector) for reference, vector in pairs], {}
        new: list[NewReference] = []
        failures: dict[bytes, Memory3Error] = {}
        outcomes = self._encoder.encode(missing, bank.info.codec, limit)
        for reference, outcome in zip(missing, outcomes, strict=True):
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


def _all_of(batch: DocumentBatch, group: Iterable[int]) -> list[Reference]:
    return [each for place in group for each in batch.references(place)]
