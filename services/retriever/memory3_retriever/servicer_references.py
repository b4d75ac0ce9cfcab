"""The methods about the references of a bank."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from memory3.errors import (
    InvalidArgumentError,
    Memory3Error,
    NotFoundError,
)
from memory3.v1 import retriever_pb2
from memory3_retriever import convert, convert_options
from memory3_retriever import validation as check
from memory3_retriever.bank.names import reference_key
from memory3_retriever.failpoints import failpoint
from memory3_retriever.ingest.outcomes import AddedDocument, AddedReference
from memory3_retriever.ingest.pipeline import Adding, in_turn
from memory3_retriever.limits import CallLimit
from memory3_retriever.servicer_base import ServicerBase


class ReferenceMethods(ServicerBase):
    """Add, get, list and delete references, and list their sources."""

    def AddDocuments(
        self,
        request_iterator: Iterator[retriever_pb2.AddDocumentsRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[retriever_pb2.AddDocumentsResponse]:
        """See the proto."""
        limit, name = CallLimit(context), ""

        def begin(
            request: retriever_pb2.AddDocumentsRequest,
        ) -> Adding[AddedDocument | Memory3Error]:
            nonlocal name
            name = _same_bank(name, request.bank)
            bank = self._bank(name, "bank")
            replace = request.replace
            policy = convert_options.duplicate_policy(request.duplicate_policy, replace=replace)
            documents = convert.new_documents(request.documents)
            return self._model(bank).adder.adding_documents(
                bank, documents, limit, replace=replace, duplicates=policy
            )

        for request, outcomes in in_turn(request_iterator, begin):
            failpoint("acknowledging")
            sources = [document.source for document in request.documents]
            pairs = zip(outcomes, sources, strict=True)
            yield retriever_pb2.AddDocumentsResponse(
                results=[convert.document_result(outcome, source) for outcome, source in pairs]
            )

    def AddReferences(
        self,
        request_iterator: Iterator[retriever_pb2.AddReferencesRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[retriever_pb2.AddReferencesResponse]:
        """See the proto."""
        limit, name = CallLimit(context), ""

        def begin(
            request: retriever_pb2.AddReferencesRequest,
        ) -> Adding[AddedReference | Memory3Error]:
            nonlocal name
            name = _same_bank(name, request.bank)
            bank = self._bank(name, "bank")
            policy = convert_options.duplicate_policy(request.duplicate_policy)
            model = self._model(bank)
            references = convert.new_references(request.references, model.splitter)
            return model.adder.adding_references(bank, references, limit, duplicates=policy)

        for _, outcomes in in_turn(request_iterator, begin):
            failpoint("acknowledging")
            yield retriever_pb2.AddReferencesResponse(
                results=[convert.reference_result(outcome) for outcome in outcomes]
            )

    def GetReference(
        self, request: retriever_pb2.GetReferenceRequest, context: grpc.ServicerContext
    ) -> retriever_pb2.GetReferenceResponse:
        """See the proto."""
        key = reference_key(request.id, "id")
        bank = self._bank(request.bank, "bank")
        reference = bank.store.get([key]).get(key)
        if reference is None:
            raise NotFoundError(
                f"{bank.resource} has no reference {request.id}",
                field="id",
                remedy="use an id that adding or searching gave",
                metadata={"resource": request.id},
            )
        return retriever_pb2.GetReferenceResponse(
            reference=convert.reference_message(reference),
            memory_bytes=len(bank.store.memories([key]).get(key, b"")),
        )

    def ListReferences(
        self, request: retriever_pb2.ListReferencesRequest, context: grpc.ServicerContext
    ) -> retriever_pb2.ListReferencesResponse:
        """See the proto."""
        size = check.page_size(request.page_size)
        bank = self._bank(request.bank, "bank")
        kind = f"references of {bank.info.uid} in {request.source!r}"
        last = check.after_token(kind, request.page_token)
        after = reference_key(last, "page_token") if last else b""
        found = bank.store.page(after, size + 1, request.source)
        response = retriever_pb2.ListReferencesResponse()
        num_bytes = 0
        for reference in found[:size]:
            message = convert.reference_message(reference)
            num_bytes += message.ByteSize()
            if response.references and num_bytes > check.MAX_PAGE_BYTES:
                break
            response.references.append(message)
        if len(found) > len(response.references):
            response.next_page_token = check.page_token(kind, response.references[-1].id)
        return response

    def ListSources(
        self, request: retriever_pb2.ListSourcesRequest, context: grpc.ServicerContext
    ) -> retriever_pb2.ListSourcesResponse:
        """See the proto."""
        size = check.page_size(request.page_size)
        bank = self._bank(request.bank, "bank")
        kind = f"sources of {bank.info.uid} in {request.source!r}"
        after = check.after_token(kind, request.page_token)
        found = bank.store.sources(request.source, after, size + 1)
        response = retriever_pb2.ListSourcesResponse()
        num_bytes = 0
        for source in found[:size]:
            num_bytes += len(source.encode())
            if response.sources and num_bytes > check.MAX_PAGE_BYTES:
                break
            response.sources.append(source)
        if len(found) > len(response.sources):
            response.next_page_token = check.page_token(kind, response.sources[-1])
        return response

    def DeleteReferences(
        self, request: retriever_pb2.DeleteReferencesRequest, context: grpc.ServicerContext
    ) -> retriever_pb2.DeleteReferencesResponse:
        """See the proto."""
        if not request.ids and not request.source and not request.exact_sources:
            raise check.invalid("ids", "nothing says what to delete", "give ids or a source")
        check.count_within("ids", request.ids, 0, check.MAX_DELETE_IDS)
        check.count_within("exact_sources", request.exact_sources, 0, check.MAX_DELETE_SOURCES)
        for i, each in enumerate(request.exact_sources):
            if not each:
                raise check.invalid(f"exact_sources[{i}]", "it is empty", "name a source")
        keys = [reference_key(id, f"ids[{i}]") for i, id in enumerate(request.ids)]
        bank = self._bank(request.bank, "bank")
        change, num_missing = bank.delete(keys, request.source, request.exact_sources)
        self._model(bank).memories.forget(bank, change.removed)
        failpoint("acknowledging")
        return retriever_pb2.DeleteReferencesResponse(
            num_deleted=len(change.removed), num_missing=num_missing
        )


def _same_bank(first: str, given: str) -> str:
    """The bank of a stream: named by its first request, and by no later one differently."""
    if given and first and given != first:
        raise InvalidArgumentError(
            f"{given[:100]!r} is not the bank that the stream began with",
            field="bank",
            remedy="use one stream for each bank",
        )
    return first or given
