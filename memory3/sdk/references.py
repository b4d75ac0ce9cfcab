"""What the SDK says about references, documents and what a search finds.

Plain frozen dataclasses: this module must not know protobuf or gRPC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

DuplicatePolicy = Literal["skip", "overwrite", "fail"]
"""What becomes of a reference that is in the bank already: it stays as it is, takes new metadata
and expiry and is encoded anew, or is refused."""


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of characters in a document."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Reference:
    """A short text that is encoded on its own into one memory.

    To add one, give ``text`` and what is known of its origin; the rest is set by the retriever.

    Attributes:
        text: What the encoder reads.
        source: A path, a URL or a key of the caller's.
        title: The title of the document.
        heading: The headings above the text, outermost first, joined by ``" > "``.
        span: The place of the text in the document.
        metadata: The caller's own pairs.
        id: The content hash, 32 hexadecimal digits; empty until added.
        num_tokens: The length in tokens of the checkpoint; 0 until added.
        create_time: When the reference became durable.
        expire_time: When it is forgotten; None for never, or by the bank's default when it is
            added.
    """

    text: str
    source: str = ""
    title: str = ""
    heading: str = ""
    span: Span | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    id: str = ""
    num_tokens: int = 0
    create_time: datetime | None = None
    expire_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A whole text, split into references by the retriever.

    Attributes:
        text: Plain or Markdown text, at most 3 MiB of UTF-8.
        source: What identifies the document; also names what ``replace`` replaces.
        title: The document's title.
        metadata: Copied to every reference of the document.
        ttl: Seconds that its references live; None for the bank's default.
    """

    text: str
    source: str = ""
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    ttl: float | None = None


@dataclass(frozen=True, slots=True)
class AddFailure:
    """Why one document or reference of a batch was not added.

    Attributes:
        reason: UPPER_SNAKE, as in the errors of ``memory3.errors``.
        message: What is wrong and what to do.
        field: The field that is wrong.
    """

    reason: str
    message: str
    field: str = ""


@dataclass(frozen=True, slots=True)
class AddedDocument:
    """What became of one document; its references are durable when this is seen.

    Attributes:
        source: The document's source.
        reference_ids: All references of the document, in reading order.
        num_added: References that are new.
        num_existing: References that were there already.
        num_removed: Old references of the source that were replaced.
        num_updated: Those of ``num_existing`` that had other metadata, which were replaced.
        error: Why the document was not added; None if it was.
    """

    source: str
    reference_ids: tuple[str, ...] = ()
    num_added: int = 0
    num_existing: int = 0
    num_removed: int = 0
    num_updated: int = 0
    error: AddFailure | None = None


@dataclass(frozen=True, slots=True)
class AddedReference:
    """What became of one reference.

    Attributes:
        id: The content hash of the reference.
        added: False if it was there already or failed.
        error: Why it was not added; None if it was.
    """

    id: str
    added: bool
    error: AddFailure | None = None


@dataclass(frozen=True, slots=True)
class AddReport:
    """What became of all documents of a call to ``add``, in the order they were given."""

    documents: tuple[AddedDocument, ...]

    @property
    def num_added(self) -> int:
        """References that are new."""
        return sum(document.num_added for document in self.documents)

    @property
    def num_existing(self) -> int:
        """References that were there already."""
        return sum(document.num_existing for document in self.documents)

    @property
    def num_removed(self) -> int:
        """Old references that were replaced."""
        return sum(document.num_removed for document in self.documents)

    @property
    def num_updated(self) -> int:
        """References that were there with other metadata, which were replaced."""
        return sum(document.num_updated for document in self.documents)

    @property
    def reference_ids(self) -> tuple[str, ...]:
        """All references of all documents, in reading order."""
        return tuple(id_ for document in self.documents for id_ in document.reference_ids)

    @property
    def failed(self) -> tuple[AddedDocument, ...]:
        """The documents that were not added."""
        return tuple(document for document in self.documents if document.error is not None)


@dataclass(frozen=True, slots=True)
class StoredReference:
    """A reference as the bank keeps it.

    Attributes:
        reference: The reference.
        memory_bytes: The size of its memory's envelope; 0 if the memory is not written yet.
    """

    reference: Reference
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class ReferencePage:
    """A page of a bank's references.

    Attributes:
        references: In the order of their ids.
        next_page_token: What asks for the next page; empty on the last.
    """

    references: tuple[Reference, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a deletion did.

    Attributes:
        num_deleted: References that existed and are gone.
        num_missing: Ids that did not exist.
    """

    num_deleted: int
    num_missing: int


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One reference found.

    Attributes:
        reference: The reference.
        score: The cosine of query and reference.
    """

    reference: Reference
    score: float


@dataclass(frozen=True, slots=True)
class RetrieveHit:
    """One memory found.

    Attributes:
        reference_id: The id of the reference.
        score: The cosine of query and reference; 0 for references asked for by id.
        status: ``sent``, ``held`` by the caller, or ``left_out`` because the time was too short.
        reference: Text and origin, if asked for.
    """

    reference_id: str
    score: float
    status: Literal["sent", "held", "left_out"]
    reference: Reference | None = None


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The answer to a retrieval.

    Attributes:
        hits: For each query, its hits by falling score.
        memories: The envelope of every memory that was sent, by reference id.
        revision: The bank's revision that was searched.
    """

    hits: tuple[tuple[RetrieveHit, ...], ...]
    memories: Mapping[str, bytes]
    revision: int
