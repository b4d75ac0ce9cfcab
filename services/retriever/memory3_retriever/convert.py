"""Protobuf to the retriever's own terms and back; requests are checked on the way in.

It must not know gRPC or anything that is stored.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from memory3.documents.splitter import Splitter
from memory3.errors import Memory3Error, ReferenceBlankError, ReferenceTooLongError
from memory3.v1 import encoder_pb2, memory_pb2, retriever_pb2
from memory3_retriever import convert_options
from memory3_retriever import validation as check
from memory3_retriever.bank.live import IndexReport, LiveBank
from memory3_retriever.bank.names import reference_key, resource_name
from memory3_retriever.bank.reading import Statistics
from memory3_retriever.bank.records import BankInfo, EmbedderIdentity, Reference, WritePolicy
from memory3_retriever.bank.snapshot import Snapshot
from memory3_retriever.ingest.outcomes import AddedDocument, AddedReference, NewDocument
from memory3_retriever.replication.follower import Served
from memory3_retriever.retrieval.search import NamedQuery, Query, TextQuery, VectorQuery

_POLICIES: dict[int, WritePolicy] = {
    retriever_pb2.WRITE_POLICY_UNSPECIFIED: "eager",
    retriever_pb2.WRITE_POLICY_EAGER: "eager",
    retriever_pb2.WRITE_POLICY_LAZY: "lazy",
}


def write_policy(value: int) -> WritePolicy:
    """When memories are written.

    Raises:
        InvalidArgumentError: This version does not know the value.
    """
    if value not in _POLICIES:
        raise check.invalid(
            "bank.write_policy",
            f"{value} is no write policy",
            "use WRITE_POLICY_EAGER or WRITE_POLICY_LAZY",
        )
    return _POLICIES[value]


def queries(messages: Sequence[retriever_pb2.Query], dimensions: int) -> list[Query]:
    """What to look for.

    Raises:
        InvalidArgumentError: A query is empty, or its vector or ids are not acceptable.
    """
    check.count_within("queries", messages, 1, check.MAX_QUERIES)
    return [_query(f"queries[{i}]", each, dimensions) for i, each in enumerate(messages)]


def _query(field: str, message: retriever_pb2.Query, dimensions: int) -> Query:
    kind = message.WhichOneof("what")
    if kind == "text":
        if len(message.text) > check.MAX_QUERY_CHARACTERS:
            raise check.invalid(
                f"{field}.text",
                f"{len(message.text)} characters, allowed are {check.MAX_QUERY_CHARACTERS}",
                "search with a part of it",
            )
        if not message.text.strip():
            raise check.invalid(f"{field}.text", "the text is empty", "say what to look for")
        return TextQuery(message.text)
    if kind == "vector":
        values = message.vector.values
        return VectorQuery(check.query_vector(f"{field}.vector.values", values, dimensions))
    if kind == "references":
        ids = message.references.ids
        check.count_within(f"{field}.references.ids", ids, 1, check.MAX_QUERY_IDS)
        return NamedQuery(
            tuple(reference_key(id, f"{field}.references.ids[{i}]") for i, id in enumerate(ids))
        )
    raise check.invalid(field, "the query is empty", "set text, vector or references")


def new_documents(
    messages: Sequence[retriever_pb2.Document],
) -> list[NewDocument | Memory3Error]:
    """Documents to add; in place of one that cannot be accepted, its error.

    Raises:
        InvalidArgumentError: The batch as a whole is too large.
    """
    check.count_within("documents", messages, 1, check.MAX_DOCUMENTS)
    size = sum(len(each.text.encode()) for each in messages)
    if size > check.MAX_DOCUMENT_BYTES:
        raise check.invalid(
            "documents",
            f"{size} bytes of text, allowed are {check.MAX_DOCUMENT_BYTES} together",
            "spread the documents over several requests; split a longer document yourself",
        )
    outcomes: list[NewDocument | Memory3Error] = []
    for place, message in enumerate(messages):
        try:
            outcomes.append(_new_document(f"documents[{place}]", message))
        except Memory3Error as error:
            outcomes.append(error)
    return outcomes


def _new_document(field: str, message: retriever_pb2.Document) -> NewDocument:
    if not message.text.strip():
        raise ReferenceBlankError(
            "the document has no text", field=f"{field}.text", remedy="leave it out"
        )
    return NewDocument(
        text=message.text,
        source=check.name_text(f"{field}.source", message.source),
        title=check.name_text(f"{field}.title", message.title),
        metadata=check.metadata(f"{field}.metadata", message.metadata),
        ttl_ns=check.ttl_ns(f"{field}.ttl", message.ttl) if message.HasField("ttl") else None,
    )


def new_references(
    messages: Sequence[memory_pb2.Reference], splitter: Splitter
) -> list[Reference | Memory3Error]:
    """References to add; in place of one that cannot be accepted, its error.

    Raises:
        InvalidArgumentError: There are none, or too many.
    """
    check.count_within("references", messages, 1, check.MAX_REFERENCES)
    outcomes: list[Reference | Memory3Error] = []
    most = check.MAX_REFERENCE_CHARACTERS
    texts = [message.text if len(message.text) <= most else "" for message in messages]
    counts = splitter.count(texts)
    for place, (message, count) in enumerate(zip(messages, counts, strict=True)):
        try:
            field = f"references[{place}]"
            outcomes.append(_new_reference(field, message, count, splitter.reference_length))
        except Memory3Error as error:
            outcomes.append(error)
    return outcomes


def _new_reference(
    field: str, message: memory_pb2.Reference, num_tokens: int, reference_length: int
) -> Reference:
    if len(message.text) > check.MAX_REFERENCE_CHARACTERS:
        raise _too_long(field, f"{len(message.text)} characters", reference_length, {})
    if not num_tokens or not message.text.strip():
        raise ReferenceBlankError(
            "the reference has no text to encode", field=f"{field}.text", remedy="leave it out"
        )
    if num_tokens > reference_length:
        facts = {"num_tokens": str(num_tokens)}
        raise _too_long(field, f"{num_tokens} tokens", reference_length, facts)
    span = None
    if message.HasField("span"):
        span = (message.span.start, message.span.end)
        if not 0 <= span[0] < span[1]:
            raise check.invalid(
                f"{field}.span", f"{span} is not a range", "use 0 <= start < end, or leave it out"
            )
    return Reference(
        text=message.text,
        source=check.name_text(f"{field}.source", message.source),
        title=check.name_text(f"{field}.title", message.title),
        heading=check.name_text(f"{field}.heading", message.heading),
        span=span,
        num_tokens=num_tokens,
        metadata=check.metadata(f"{field}.metadata", message.metadata),
        expire_time_ns=_expire_time(f"{field}.expire_time", message),
    )


def _too_long(field: str, size: str, limit: int, facts: dict[str, str]) -> ReferenceTooLongError:
    return ReferenceTooLongError(
        f"the reference has {size}, the checkpoint encodes at most {limit} tokens",
        field=f"{field}.text",
        remedy="split the text, or add it as a document, which is split for you",
        metadata={"limit": str(limit), **facts},
    )


def _expire_time(field: str, message: memory_pb2.Reference) -> int:
    if not message.HasField("expire_time"):
        return 0
    nanoseconds = check.time_ns(field, message.expire_time)
    if nanoseconds <= time.time_ns():
        raise check.invalid(
            field, "it is in the past", "give a time to come, or leave the reference out"
        )
    return nanoseconds


def reference_message(reference: Reference) -> memory_pb2.Reference:
    """A reference as a message."""
    message = memory_pb2.Reference(
        id=reference.id,
        text=reference.text,
        source=reference.source,
        title=reference.title,
        heading=reference.heading,
        num_tokens=reference.num_tokens,
        metadata=reference.metadata,
        create_time=_timestamp(reference.create_time_ns),
    )
    if reference.span is not None:
        message.span.start, message.span.end = reference.span
    if reference.expire_time_ns:
        message.expire_time.CopyFrom(_timestamp(reference.expire_time_ns))
    return message


def bank_message(
    info: BankInfo,
    statistics: Statistics | None = None,
    disk_bytes: int = 0,
    index: IndexReport | None = None,
) -> retriever_pb2.Bank:
    """A bank as a message."""
    lazy = info.write_policy == "lazy"
    message = retriever_pb2.Bank(
        name=resource_name(info.name),
        checkpoint_digest=info.checkpoint_digest,
        embedder=embedder_message(info.embedder),
        index=info.index,
        codec=info.codec,
        write_policy=(
            retriever_pb2.WRITE_POLICY_LAZY if lazy else retriever_pb2.WRITE_POLICY_EAGER
        ),
        create_time=_timestamp(info.create_time_ns),
    )
    convert_options.set_options(message, info)
    if statistics is not None:
        message.revision = statistics.revision
        message.statistics.num_references = statistics.num_references
        message.statistics.num_memories = statistics.num_memories
        message.statistics.num_sources = statistics.num_sources
        message.statistics.memory_bytes = statistics.memory_bytes
        message.statistics.disk_bytes = disk_bytes
        message.statistics.used_bytes = statistics.used_bytes
        message.statistics.num_expiring = statistics.num_expiring
        if index is not None:
            message.statistics.index.CopyFrom(index_message(index))
    return message


def described(bank: LiveBank, aliases: Sequence[str] = ()) -> retriever_pb2.Bank:
    """An open bank with its statistics, and the ids of its aliases, as a message."""
    statistics = bank.store.statistics()
    disk_bytes = bank.store.environment.disk_bytes()
    message = bank_message(bank.info, statistics, disk_bytes, bank.index_report())
    message.aliases.extend(map(resource_name, aliases))
    return message


def index_message(report: IndexReport) -> retriever_pb2.IndexStatistics:
    """The state of an index as a message."""
    state, recall = report.state, report.recall
    return retriever_pb2.IndexStatistics(
        num_vectors=state.num_vectors,
        num_delta=state.num_delta,
        num_deleted=state.num_deleted,
        memory_bytes=state.memory_bytes,
        recall=None if recall is None else recall.share,
        num_sampled=0 if recall is None else recall.num_sampled,
        rebuilding=state.rebuilding,
    )


def embedder_message(embedder: EmbedderIdentity) -> encoder_pb2.EmbedderInfo:
    """An embedder as a message."""
    return encoder_pb2.EmbedderInfo(
        name=embedder.name, digest=embedder.digest, dimensions=embedder.dimensions
    )


def snapshot_message(snapshot: Snapshot) -> retriever_pb2.Snapshot:
    """A snapshot as a message."""
    return retriever_pb2.Snapshot(
        id=snapshot.id,
        bank=resource_name(snapshot.bank),
        revision=snapshot.revision,
        sha256=snapshot.sha256,
        size_bytes=snapshot.size_bytes,
        checkpoint_digest=snapshot.checkpoint_digest,
        create_time=_timestamp(snapshot.create_time_ns) if snapshot.create_time_ns else None,
    )


def replica_message(served: Served) -> retriever_pb2.Replica:
    """What a reader serves of a bank, as a message."""
    lag = served.lag_ns()
    return retriever_pb2.Replica(
        generation=served.generation.number,
        publish_time=_timestamp(served.generation.publish_time_ns),
        lag=Duration(seconds=lag // 10**9, nanos=lag % 10**9),
    )


def document_result(
    outcome: AddedDocument | Memory3Error, source: str
) -> retriever_pb2.AddDocumentResult:
    """What became of a document, as a message."""
    if isinstance(outcome, Memory3Error):
        return retriever_pb2.AddDocumentResult(source=source, error=_add_error(outcome))
    return retriever_pb2.AddDocumentResult(
        source=source,
        reference_ids=[key.hex() for key in outcome.keys],
        num_added=outcome.num_added,
        num_existing=outcome.num_existing,
        num_removed=outcome.num_removed,
        num_updated=outcome.num_updated,
    )


def reference_result(outcome: AddedReference | Memory3Error) -> retriever_pb2.AddReferenceResult:
    """What became of a reference, as a message."""
    if isinstance(outcome, Memory3Error):
        return retriever_pb2.AddReferenceResult(error=_add_error(outcome))
    return retriever_pb2.AddReferenceResult(id=outcome.key.hex(), added=outcome.added)


def _add_error(error: Memory3Error) -> retriever_pb2.AddError:
    message = f"{error.message} ({error.remedy})" if error.remedy else error.message
    return retriever_pb2.AddError(reason=error.reason, message=message, field=error.field or "")


def _timestamp(nanoseconds: int) -> Timestamp:
    return Timestamp(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)
