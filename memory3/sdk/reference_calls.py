"""Every call about references: adding, reading, deleting, finding and fetching their memories.

The docstrings and signatures here are those of ``Client`` and ``AsyncClient``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from memory3.sdk import batches, convert
from memory3.sdk.call import Batched, Endpoint, Folded, Paged, Unary
from memory3.sdk.filters import Where, filter_message
from memory3.sdk.folds import RetrievedFold
from memory3.sdk.options import duration
from memory3.sdk.references import (
    AddedDocument,
    AddedReference,
    AddReport,
    Deletion,
    Document,
    DuplicatePolicy,
    Reference,
    ReferencePage,
    Retrieved,
    SearchHit,
    StoredReference,
)
from memory3.v1 import encoder_pb2, retriever_pb2

_QUICK_S: Final = 30.0
# One batch may have thousands of references to encode on a small machine.
_ADD_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class ReferenceIds:
    """A query that names its references instead of searching for them."""

    ids: Sequence[str]


Query = str | Sequence[float] | ReferenceIds
"""A text to search with, a vector to search with, or the references themselves."""


def _endpoint(method: str, timeout: float = _QUICK_S) -> Endpoint:
    return Endpoint("retriever", method, timeout)


def add(
    bank: str,
    documents: Document | str | Iterable[Document | str],
    *,
    replace: bool | None = None,
    duplicates: DuplicatePolicy | None = None,
    ttl: float | None = None,
    on_durable: Callable[[list[AddedDocument]], None] | None = None,
    max_documents: int = batches.DEFAULT_DOCUMENTS,
    max_bytes: int = batches.DEFAULT_BYTES,
    timeout: float | None = None,
) -> Batched[AddedDocument, AddReport]:
    """Add whole texts; the retriever splits them into references. Nothing is added twice.

    Args:
        bank: The bank.
        documents: Documents or bare texts, one or many; read as the batches go out.
        replace: Remove those old references of each document's source that the document no longer
            has, and give those it still has its metadata and expiry. A document without a source
            replaces nothing. None means yes, unless ``duplicates`` is given.
        duplicates: What becomes of references that are there already, where nothing is replaced:
            ``skip``, ``overwrite`` or ``fail``.
        ttl: Seconds that references live, counted from when they are stored, of documents that say
            nothing themselves; None for the bank's default.
        on_durable: Called with the results of each batch once they are durable, in order; what it
            has seen stays even if a later batch fails.
        max_documents: The most documents in one batch, up to 256.
        max_bytes: The most bytes in one batch, up to 3 MiB.
        timeout: Seconds to wait for each batch.

    Returns:
        What became of each document. Look at ``failed``: one bad document does not fail the rest.

    Raises:
        NotFoundError: There is no such bank.
        InvalidArgumentError: A text is above 3 MiB or not text.
    """
    requests = batches.document_requests(
        convert.resource_name(bank),
        documents,
        replace=duplicates is None if replace is None else replace,
        duplicates=duplicates,
        ttl=ttl,
        max_documents=max_documents,
        max_bytes=max_bytes,
    )
    return Batched(
        endpoint=_endpoint("AddDocuments", _ADD_S),
        requests=requests,
        items=lambda r: [convert.added_document(result) for result in r.results],
        collect=lambda items: AddReport(tuple(items)),
        on_durable=on_durable,
        timeout=timeout,
    )


def add_references(
    bank: str,
    references: Reference | str | Iterable[Reference | str],
    *,
    duplicates: DuplicatePolicy | None = None,
    on_durable: Callable[[list[AddedReference]], None] | None = None,
    max_references: int = batches.DEFAULT_REFERENCES,
    max_bytes: int = batches.DEFAULT_BYTES,
    timeout: float | None = None,
) -> Batched[AddedReference, tuple[AddedReference, ...]]:
    """Add references that are already split; one that is too long is an error of its own.

    Args:
        bank: The bank.
        references: References or bare texts, one or many.
        duplicates: What becomes of those that are there already: ``skip`` (the default),
            ``overwrite`` or ``fail``.
        on_durable: Called with the results of each batch once they are durable.
        max_references: The most references in one batch, up to 1024.
        max_bytes: The most bytes in one batch, up to 3 MiB.
        timeout: Seconds to wait for each batch.

    Returns:
        What became of each reference, in order.
    """
    requests = batches.reference_requests(
        convert.resource_name(bank),
        references,
        duplicates=duplicates,
        max_references=max_references,
        max_bytes=max_bytes,
    )
    return Batched(
        endpoint=_endpoint("AddReferences", _ADD_S),
        requests=requests,
        items=lambda r: [convert.added_reference(result) for result in r.results],
        collect=tuple,
        on_durable=on_durable,
        timeout=timeout,
    )


def get_reference(bank: str, id: str, *, timeout: float | None = None) -> Unary[StoredReference]:
    """Read one reference and the size of its memory.

    Raises:
        NotFoundError: There is no such bank or reference.
    """
    request = retriever_pb2.GetReferenceRequest(bank=convert.resource_name(bank), id=id)
    return Unary(_endpoint("GetReference"), request, convert.stored_reference, timeout)


def list_references(
    bank: str, *, source: str = "", page_size: int = 0, timeout: float | None = None
) -> Paged[Reference]:
    """Iterate over the references of a bank, page by page, in the order of their ids.

    Args:
        bank: The bank.
        source: Restrict to one source and what is inside it, as in ``delete_references``; empty
            for all.
        page_size: References in one page, up to 1000; 0 for 100.
        timeout: Seconds for each page.
    """
    request = retriever_pb2.ListReferencesRequest(
        bank=convert.resource_name(bank), source=source, page_size=page_size
    )
    return Paged(
        _endpoint("ListReferences"),
        request,
        lambda r: map(convert.reference, r.references),
        timeout,
    )


def reference_page(
    bank: str,
    *,
    source: str = "",
    page_size: int = 0,
    page_token: str = "",
    timeout: float | None = None,
) -> Unary[ReferencePage]:
    """Read one page of a bank's references, for those who turn pages one by one.

    Args:
        bank: The bank.
        source: As in ``list_references``.
        page_size: References in the page, up to 1000; 0 for 100.
        page_token: ``next_page_token`` of the page before; empty for the first.
        timeout: Seconds for the call.
    """
    request = retriever_pb2.ListReferencesRequest(
        bank=convert.resource_name(bank), source=source, page_size=page_size, page_token=page_token
    )
    return Unary(
        _endpoint("ListReferences"),
        request,
        lambda r: ReferencePage(tuple(map(convert.reference, r.references)), r.next_page_token),
        timeout,
    )


def list_sources(
    bank: str, *, source: str = "", page_size: int = 0, timeout: float | None = None
) -> Paged[str]:
    """Iterate over the sources of a bank's references, each once, page by page.

    Args:
        bank: The bank.
        source: Restrict to one source and what is inside it, as in ``delete_references``; empty
            for all.
        page_size: Sources in one page, up to 1000; 0 for 100.
        timeout: Seconds for each page.
    """
    request = retriever_pb2.ListSourcesRequest(
        bank=convert.resource_name(bank), source=source, page_size=page_size
    )
    return Paged(_endpoint("ListSources"), request, lambda r: iter(r.sources), timeout)


def delete_references(
    bank: str,
    ids: Sequence[str] = (),
    *,
    source: str = "",
    exact_sources: Sequence[str] = (),
    timeout: float | None = None,
) -> Unary[Deletion]:
    """Remove references with their vectors and memories, in one transaction.

    Args:
        bank: The bank.
        ids: At most 10000 ids; those that do not exist are counted, not refused.
        source: Also remove every reference of this source and of what is inside it: sources that
            go on with ``#``, as the records of a file do; and where it ends with ``/``, all that
            begin with it.
        exact_sources: Also remove every reference of these, at most 1000, and nothing inside them.
        timeout: Seconds for the call.
    """
    request = retriever_pb2.DeleteReferencesRequest(
        bank=convert.resource_name(bank),
        ids=[ids] if isinstance(ids, str) else ids,
        source=source,
        exact_sources=[exact_sources] if isinstance(exact_sources, str) else exact_sources,
    )
    return Unary(
        _endpoint("DeleteReferences", 120.0),
        request,
        lambda r: Deletion(r.num_deleted, r.num_missing),
        timeout,
    )


def _query(query: Query) -> retriever_pb2.Query:
    if isinstance(query, str):
        return retriever_pb2.Query(text=query)
    if isinstance(query, ReferenceIds):
        return retriever_pb2.Query(references=retriever_pb2.ReferenceIds(ids=query.ids))
    return retriever_pb2.Query(vector=encoder_pb2.Vector(values=query))


def search(
    bank: str, query: Query, *, k: int = 5, where: Where = (), timeout: float | None = None
) -> Unary[list[SearchHit]]:
    """Find references, without their memories, by falling score.

    Args:
        bank: The bank.
        query: A text, a vector of the bank's embedder, or ``ReferenceIds``.
        k: How many, up to 256.
        where: Conditions on metadata that must all hold, such as ``["lang=de", "year>=2020"]``,
            ``"tag in a,b"``, ``"author exists"``; see ``memory3.sdk.filters.Condition``.
        timeout: Seconds for the call.
    """
    request = retriever_pb2.SearchRequest(
        bank=convert.resource_name(bank),
        queries=[_query(query)],
        k=k,
        filter=filter_message(where),
    )
    return Unary(
        _endpoint("Search"),
        request,
        lambda r: [convert.search_hit(hit) for hit in r.results[0].hits],
        timeout,
    )


def search_many(
    bank: str,
    queries: Iterable[Query],
    *,
    k: int = 5,
    where: Where = (),
    timeout: float | None = None,
) -> Unary[list[list[SearchHit]]]:
    """As ``search``, for up to 256 queries in one call; one list of hits for each."""
    request = retriever_pb2.SearchRequest(
        bank=convert.resource_name(bank),
        queries=[_query(query) for query in queries],
        k=k,
        filter=filter_message(where),
    )
    return Unary(
        _endpoint("Search"),
        request,
        lambda r: [[convert.search_hit(hit) for hit in result.hits] for result in r.results],
        timeout,
    )


def retrieve(
    bank: str,
    queries: str | ReferenceIds | Iterable[Query],
    *,
    checkpoint_digest: str,
    k: int = 5,
    where: Where = (),
    held_ids: Sequence[str] = (),
    with_references: bool = False,
    encode_timeout: float | None = None,
    timeout: float | None = None,
) -> Folded[Retrieved]:
    """Find references and fetch their memories as envelopes, each memory once.

    Args:
        bank: The bank.
        queries: One text or list of ids, or up to 256 queries.
        checkpoint_digest: The digest of the caller's checkpoint; must be the bank's.
        k: Hits for each query, up to 256.
        where: Conditions on metadata, as in ``search``; named references are not restricted.
        held_ids: References whose memories the caller has; they are not sent again.
        with_references: Also send text and origin of each hit.
        encode_timeout: Seconds that writing missing memories may take.
        timeout: Seconds for the call.

    Raises:
        CheckpointMismatchError: The bank belongs to another checkpoint.
    """
    given: Iterable[Query] = [queries] if isinstance(queries, str | ReferenceIds) else queries
    request = retriever_pb2.RetrieveRequest(
        bank=convert.resource_name(bank),
        queries=[_query(query) for query in given],
        k=k,
        held_ids=held_ids,
        checkpoint_digest=checkpoint_digest,
        with_references=with_references,
        encode_timeout=duration(encode_timeout),
        filter=filter_message(where),
    )
    return Folded(_endpoint("Retrieve", 60.0), request, RetrievedFold, timeout)
