"""Turns protobuf messages of the retriever and the encoder into the SDK's types and back.

It must not know channels or calls.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal

from google.protobuf.timestamp_pb2 import Timestamp

from memory3.errors import InvalidArgumentError
from memory3.sdk.banks import (
    Bank,
    BankProblem,
    BankReport,
    BankStatistics,
    CheckpointInfo,
    DecoderInfo,
    EncoderInfo,
    IndexStatistics,
    MemoryLayout,
    RetrieverInfo,
    Snapshot,
)
from memory3.sdk.options import duration
from memory3.sdk.references import (
    AddedDocument,
    AddedReference,
    AddFailure,
    Document,
    Reference,
    RetrieveHit,
    SearchHit,
    Span,
    StoredReference,
)
from memory3.v1 import decoder_pb2, encoder_pb2, memory_pb2, retriever_pb2

BANK_PREFIX: Final = "banks/"

_POLICIES: Final[dict[str, retriever_pb2.WritePolicy.ValueType]] = {
    "eager": retriever_pb2.WRITE_POLICY_EAGER,
    "lazy": retriever_pb2.WRITE_POLICY_LAZY,
}

_DUPLICATES: Final[dict[str, retriever_pb2.DuplicatePolicy.ValueType]] = {
    "skip": retriever_pb2.DUPLICATE_POLICY_SKIP,
    "overwrite": retriever_pb2.DUPLICATE_POLICY_OVERWRITE,
    "fail": retriever_pb2.DUPLICATE_POLICY_FAIL,
}

_DURABILITIES: Final[dict[str, retriever_pb2.Durability.ValueType]] = {
    "fsync": retriever_pb2.DURABILITY_FSYNC,
    "async": retriever_pb2.DURABILITY_ASYNC,
}

_STATUSES: Final[dict[int, Literal["sent", "held", "left_out"]]] = {
    memory_pb2.MEMORY_STATUS_SENT: "sent",
    memory_pb2.MEMORY_STATUS_HELD: "held",
    memory_pb2.MEMORY_STATUS_LEFT_OUT: "left_out",
}


def resource_name(bank: str) -> str:
    """``docs`` and ``banks/docs`` both name the bank ``banks/docs``; empty stays empty."""
    return bank if not bank or bank.startswith(BANK_PREFIX) else BANK_PREFIX + bank


def short_name(resource: str) -> str:
    """The name of a bank without ``banks/``."""
    return resource.removeprefix(BANK_PREFIX)


def write_policy(policy: str) -> retriever_pb2.WritePolicy.ValueType:
    """The message's value for a write policy.

    Raises:
        InvalidArgumentError: There is no such policy.
    """
    if policy not in _POLICIES:
        raise InvalidArgumentError(
            f"there is no write policy {policy!r}",
            field="write_policy",
            remedy=f"use one of {', '.join(_POLICIES)}",
        )
    return _POLICIES[policy]


def duplicate_policy(policy: str | None) -> retriever_pb2.DuplicatePolicy.ValueType:
    """The message's value for a duplicate policy; None for none.

    Raises:
        InvalidArgumentError: There is no such policy.
    """
    if policy is not None and policy not in _DUPLICATES:
        raise InvalidArgumentError(
            f"there is no duplicate policy {policy!r}",
            field="duplicates",
            remedy=f"use one of {', '.join(_DUPLICATES)}",
        )
    return _DUPLICATES[policy] if policy else retriever_pb2.DUPLICATE_POLICY_UNSPECIFIED


def durability(level: str) -> retriever_pb2.Durability.ValueType:
    """The message's value for a durability.

    Raises:
        InvalidArgumentError: There is none of that name.
    """
    if level not in _DURABILITIES:
        raise InvalidArgumentError(
            f"there is no durability {level!r}",
            field="durability",
            remedy=f"use one of {', '.join(_DURABILITIES)}",
        )
    return _DURABILITIES[level]


def time_of(stamp: Timestamp) -> datetime | None:
    """A time as a service sent it; None where it is not set."""
    return stamp.ToDatetime(tzinfo=UTC) if stamp.seconds or stamp.nanos else None


def reference_to_proto(reference: Reference) -> memory_pb2.Reference:
    """The message for a reference to be added; output-only fields stay unset."""
    message = memory_pb2.Reference(
        text=reference.text,
        source=reference.source,
        title=reference.title,
        heading=reference.heading,
        metadata=dict(reference.metadata),
    )
    if reference.span is not None:
        message.span.start, message.span.end = reference.span.start, reference.span.end
    if reference.expire_time is not None:
        message.expire_time.FromDatetime(reference.expire_time)
    return message


def reference(message: memory_pb2.Reference) -> Reference:
    """A reference as a service sent it."""
    span = Span(message.span.start, message.span.end) if message.HasField("span") else None
    return Reference(
        text=message.text,
        source=message.source,
        title=message.title,
        heading=message.heading,
        span=span,
        metadata=dict(message.metadata),
        id=message.id,
        num_tokens=message.num_tokens,
        create_time=time_of(message.create_time),
        expire_time=time_of(message.expire_time),
    )


def document_to_proto(document: Document) -> retriever_pb2.Document:
    """The message for a document."""
    return retriever_pb2.Document(
        text=document.text,
        source=document.source,
        title=document.title,
        metadata=dict(document.metadata),
        ttl=duration(document.ttl),
    )


def bank(message: retriever_pb2.Bank) -> Bank:
    """A bank as the retriever sent it."""
    statistics = None
    if message.HasField("statistics"):
        counted = message.statistics
        statistics = BankStatistics(
            num_references=counted.num_references,
            num_memories=counted.num_memories,
            num_sources=counted.num_sources,
            memory_bytes=counted.memory_bytes,
            disk_bytes=counted.disk_bytes,
            used_bytes=counted.used_bytes,
            num_expiring=counted.num_expiring,
            index=index_statistics(counted.index) if counted.HasField("index") else None,
        )
    ttl = message.default_ttl.ToNanoseconds() / 1e9 if message.HasField("default_ttl") else None
    lazy = message.write_policy == retriever_pb2.WRITE_POLICY_LAZY
    return Bank(
        name=short_name(message.name),
        checkpoint_digest=message.checkpoint_digest,
        embedder=message.embedder.name,
        embedder_digest=message.embedder.digest,
        dimensions=message.embedder.dimensions,
        index=message.index,
        codec=message.codec,
        write_policy="lazy" if lazy else "eager",
        description=message.description,
        create_time=time_of(message.create_time),
        revision=message.revision,
        statistics=statistics,
        quota_bytes=message.quota_bytes,
        default_ttl=ttl,
        durability=("async" if message.durability == retriever_pb2.DURABILITY_ASYNC else "fsync"),
    )


def index_statistics(message: retriever_pb2.IndexStatistics) -> IndexStatistics:
    """The state of a bank's index."""
    return IndexStatistics(
        num_vectors=message.num_vectors,
        num_delta=message.num_delta,
        num_deleted=message.num_deleted,
        memory_bytes=message.memory_bytes,
        recall=message.recall if message.HasField("recall") else None,
        num_sampled=message.num_sampled,
        rebuilding=message.rebuilding,
    )


def bank_report(message: retriever_pb2.VerifyBankResponse) -> BankReport:
    """The outcome of a verification."""
    return BankReport(
        num_checked=message.num_checked,
        problems=tuple(
            BankProblem(problem.reference_id, problem.reason, problem.message)
            for problem in message.problems
        ),
    )


def snapshot(message: retriever_pb2.Snapshot) -> Snapshot:
    """A snapshot as the retriever sent it."""
    return Snapshot(
        id=message.id,
        bank=short_name(message.bank),
        revision=message.revision,
        sha256=message.sha256,
        size_bytes=message.size_bytes,
        checkpoint_digest=message.checkpoint_digest,
    )


def _failure(message: retriever_pb2.AddError) -> AddFailure:
    return AddFailure(message.reason, message.message, message.field)


def added_document(message: retriever_pb2.AddDocumentResult) -> AddedDocument:
    """What became of a document."""
    return AddedDocument(
        source=message.source,
        reference_ids=tuple(message.reference_ids),
        num_added=message.num_added,
        num_existing=message.num_existing,
        num_removed=message.num_removed,
        num_updated=message.num_updated,
        error=_failure(message.error) if message.HasField("error") else None,
    )


def added_reference(message: retriever_pb2.AddReferenceResult) -> AddedReference:
    """What became of a reference."""
    error = _failure(message.error) if message.HasField("error") else None
    return AddedReference(message.id, message.added, error)


def stored_reference(message: retriever_pb2.GetReferenceResponse) -> StoredReference:
    """A reference with the size of its memory."""
    return StoredReference(reference(message.reference), message.memory_bytes)


def search_hit(message: retriever_pb2.SearchHit) -> SearchHit:
    """One reference found."""
    return SearchHit(reference(message.reference), message.score)


def retrieve_hit(message: retriever_pb2.RetrieveHit) -> RetrieveHit:
    """One memory found."""
    return RetrieveHit(
        reference_id=message.reference_id,
        score=message.score,
        status=_STATUSES.get(message.memory_status, "left_out"),
        reference=reference(message.reference) if message.HasField("reference") else None,
    )


def checkpoint_info(message: memory_pb2.CheckpointInfo) -> CheckpointInfo:
    """The identity of a checkpoint."""
    layout = message.memory_layout
    return CheckpointInfo(
        digest=message.digest,
        name=message.name,
        num_parameters=message.num_parameters,
        memory_layout=MemoryLayout(
            num_memory_layers=layout.num_memory_layers,
            num_kv_heads=layout.num_kv_heads,
            head_dim=layout.head_dim,
            tokens_kept=layout.tokens_kept,
            reference_length=layout.reference_length,
            chunk_length=layout.chunk_length,
            references_per_chunk=layout.references_per_chunk,
        ),
    )


def decoder_info(message: decoder_pb2.DecoderServiceGetInfoResponse) -> DecoderInfo:
    """The state of a decoder."""
    return DecoderInfo(
        checkpoint=checkpoint_info(message.checkpoint),
        num_slots=message.num_slots,
        num_running=message.num_running,
        num_waiting=message.num_waiting,
        context_length=message.context_length,
        dtype=message.dtype,
        retriever=message.retriever,
        version=message.version,
    )


def retriever_info(message: retriever_pb2.RetrieverServiceGetInfoResponse) -> RetrieverInfo:
    """The state of a retriever."""
    return RetrieverInfo(
        checkpoint=checkpoint_info(message.checkpoint),
        indexes=tuple(message.indexes),
        cache=message.cache,
        cache_hits=message.cache_hits,
        cache_misses=message.cache_misses,
        num_banks=message.num_banks,
        version=message.version,
    )


def encoder_info(message: encoder_pb2.EncoderServiceGetInfoResponse) -> EncoderInfo:
    """The state of an encoder."""
    return EncoderInfo(
        checkpoint=checkpoint_info(message.checkpoint),
        embedder=message.embedder.name,
        embedder_digest=message.embedder.digest,
        dimensions=message.embedder.dimensions,
        default_codec=message.default_codec,
        codecs=tuple(message.codecs),
        version=message.version,
    )
