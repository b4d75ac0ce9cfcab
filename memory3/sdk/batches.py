"""Groups documents and references into requests that fit the wire: by number and by bytes.

A request of up to 4 MiB is what a gRPC server takes by default; texts of 3 MiB leave room for the
rest. Callers may ask for smaller batches, so that each acknowledgement comes sooner.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from memory3.errors import InvalidArgumentError
from memory3.sdk import convert
from memory3.sdk.references import Document, Reference
from memory3.v1 import memory_pb2, retriever_pb2

MAX_DOCUMENTS: Final = 256
MAX_REFERENCES: Final = 1024
MAX_BYTES: Final = 3 * 2**20

# Small enough to be encoded in seconds on a small machine, so that an interrupted call has lost
# little and a progress bar moves.
DEFAULT_DOCUMENTS: Final = 64
DEFAULT_REFERENCES: Final = 256
DEFAULT_BYTES: Final = 256 * 2**10

ItemT = TypeVar("ItemT")


def document_requests(
    bank: str,
    documents: Document | str | Iterable[Document | str],
    *,
    replace: bool,
    duplicates: str | None = None,
    ttl: float | None = None,
    max_documents: int = DEFAULT_DOCUMENTS,
    max_bytes: int = DEFAULT_BYTES,
) -> Iterator[retriever_pb2.AddDocumentsRequest]:
    """Group documents into requests; reads ``documents`` no further than it must.

    Args:
        bank: The resource name of the bank.
        documents: Documents or bare texts; a single one stands for a list of one.
        replace: Whether old references of each source are replaced.
        duplicates: What becomes of references that are there already; None says nothing.
        ttl: Seconds that references of documents live which say nothing themselves.
        max_documents: The most documents in one request, 1 to 256.
        max_bytes: The most bytes of one request; a document larger than that goes alone.

    Raises:
        InvalidArgumentError: A text is above 3 MiB, or a limit is out of range.
    """
    _check_limits(max_documents, MAX_DOCUMENTS, "max_documents", max_bytes)
    given = [documents] if isinstance(documents, Document | str) else documents
    messages = (_document(item, index, ttl) for index, item in enumerate(given))
    for batch in _grouped(messages, max_documents, max_bytes):
        yield retriever_pb2.AddDocumentsRequest(
            bank=bank,
            documents=batch,
            replace=replace,
            duplicate_policy=convert.duplicate_policy(duplicates),
        )


def reference_requests(
    bank: str,
    references: Reference | str | Iterable[Reference | str],
    *,
    duplicates: str | None = None,
    max_references: int = DEFAULT_REFERENCES,
    max_bytes: int = DEFAULT_BYTES,
) -> Iterator[retriever_pb2.AddReferencesRequest]:
    """Group references into requests; like ``document_requests``, at most 1024 in one."""
    _check_limits(max_references, MAX_REFERENCES, "max_references", max_bytes)
    given = [references] if isinstance(references, Reference | str) else references
    messages = (_reference(item, index) for index, item in enumerate(given))
    for batch in _grouped(messages, max_references, max_bytes):
        yield retriever_pb2.AddReferencesRequest(
            bank=bank, references=batch, duplicate_policy=convert.duplicate_policy(duplicates)
        )


def _check_limits(number: int, most: int, name: str, max_bytes: int) -> None:
    if not 1 <= number <= most:
        raise InvalidArgumentError(f"{number} is not between 1 and {most}", field=name)
    if not 1 <= max_bytes <= MAX_BYTES:
        raise InvalidArgumentError(
            f"{max_bytes} is not between 1 and {MAX_BYTES}", field="max_bytes"
        )


def _document(item: Document | str, index: int, ttl: float | None) -> retriever_pb2.Document:
    document = Document(item) if isinstance(item, str) else item
    if ttl is not None and document.ttl is None:
        document = dataclasses.replace(document, ttl=ttl)
    return _checked(lambda: convert.document_to_proto(document), f"documents[{index}]")


def _reference(item: Reference | str, index: int) -> memory_pb2.Reference:
    reference = Reference(item) if isinstance(item, str) else item
    return _checked(lambda: convert.reference_to_proto(reference), f"references[{index}]")


def _checked(build: Callable[[], ItemT], where: str) -> ItemT:
    try:
        message: Any = build()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            "a text holds code points that UTF-8 cannot carry",
            field=where,
            remedy="decode the text with the right encoding, or replace lone surrogates",
        ) from error
    size = message.ByteSize()
    if size > MAX_BYTES + 2**16:
        raise InvalidArgumentError(
            f"{size} bytes is above the limit of {MAX_BYTES}",
            field=f"{where}.text",
            remedy="cut the text into parts with a source each, as `memory3 add` does",
        )
    return message  # type: ignore[no-any-return]


def _grouped(messages: Iterable[ItemT], max_items: int, max_bytes: int) -> Iterator[list[ItemT]]:
    batch: list[ItemT] = []
    size = 0
    for message in messages:
        # Each item costs its tag and length besides its own bytes.
        num_bytes = message.ByteSize() + 8  # type: ignore[attr-defined]
        if batch and (len(batch) >= max_items or size + num_bytes > max_bytes):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += num_bytes
    if batch:
        yield batch
