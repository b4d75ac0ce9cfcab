"""A retriever that keeps everything in memory, for tests of clients over real sockets.

It keeps to the wire contract as far as a client can see it: names, ids by content, replacement by
source, pages, acknowledgements in order, pieces of memories, typed errors.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from memory3.errors import (
    AlreadyExistsError,
    CheckpointMismatchError,
    InvalidArgumentError,
    NotFoundError,
    StorageFullError,
)
from memory3.v1 import memory_pb2, retriever_pb2
from memory3.v1.retriever_pb2_grpc import (
    RetrieverServiceServicer,
)

DIGEST = "d1" * 32
CHECKPOINT = memory_pb2.CheckpointInfo(
    digest=DIGEST,
    name="test",
    num_parameters=1234,
    memory_layout=memory_pb2.MemoryLayout(num_memory_layers=2, tokens_kept=8, chunk_length=64),
)
# A text with this word cannot be added; one with the other fails the whole call.
BAD_WORD = "unacceptable"
FULL_WORD = "disk-full"
SLOW_WORD = "slow"


def reference_id(reference: memory_pb2.Reference) -> str:
    """The same content always has the same id."""
    parts = (reference.source, reference.title, reference.heading, reference.text)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


class MemoryRetriever(RetrieverServiceServicer):
    """Splits at blank lines and finds by common words."""

    def __init__(self) -> None:
        self.banks: dict[str, dict[str, memory_pb2.Reference]] = {}
        self.described: dict[str, retriever_pb2.Bank] = {}
        self.batch_sizes: list[int] = []
        self.batch_bytes: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def _bank(self, name: str) -> dict[str, memory_pb2.Reference]:
        if name not in self.banks:
            raise NotFoundError(f"there is no {name}", field="bank", remedy="create it first")
        return self.banks[name]

    def _describe(self, name: str) -> retriever_pb2.Bank:
        bank = retriever_pb2.Bank()
        bank.CopyFrom(self.described[name])
        bank.statistics.num_references = len(self._bank(name))
        bank.statistics.num_memories = len(self._bank(name))
        bank.statistics.memory_bytes = 100 * len(self._bank(name))
        return bank

    def CreateBank(self, request: Any, context: Any) -> Any:
        name = request.bank.name
        if name in self.banks and request.allow_existing:
            return retriever_pb2.CreateBankResponse(bank=self._describe(name))
        if name in self.banks:
            raise AlreadyExistsError(f"{name} is there already", field="bank.name")
        self.banks[name] = {}
        made = retriever_pb2.Bank(checkpoint_digest=DIGEST, revision=1)
        made.MergeFrom(request.bank)
        made.embedder.name, made.embedder.dimensions = "lexical", 384
        made.create_time.GetCurrentTime()
        self.described[name] = made
        return retriever_pb2.CreateBankResponse(bank=self._describe(name))

    def GetBank(self, request: Any, context: Any) -> Any:
        self._bank(request.name)
        return retriever_pb2.GetBankResponse(bank=self._describe(request.name))

    def ListBanks(self, request: Any, context: Any) -> Any:
        names, token = _page(sorted(self.banks), request)
        banks = [self._describe(name) for name in names]
        return retriever_pb2.ListBanksResponse(banks=banks, next_page_token=token)

    def DeleteBank(self, request: Any, context: Any) -> Any:
        if self.banks.pop(request.name, None) is None and not request.allow_missing:
            self._bank(request.name)
        return retriever_pb2.DeleteBankResponse()

    def VerifyBank(self, request: Any, context: Any) -> Any:
        bank = self._bank(request.name)
        problems = [
            retriever_pb2.BankProblem(reference_id=id_, reason="MEMORY_CHECKSUM", message="bad")
            for id_, reference in bank.items()
            if reference.source == "corrupt"
        ]
        return retriever_pb2.VerifyBankResponse(num_checked=len(bank), problems=problems)

    def SnapshotBank(self, request: Any, context: Any) -> Any:
        self._bank(request.name)
        snapshot = retriever_pb2.Snapshot(
            id=request.snapshot or "made-1",
            bank=request.name,
            revision=1,
            sha256="ab",
            size_bytes=9,
        )
        return retriever_pb2.SnapshotBankResponse(snapshot=snapshot)

    def RestoreBank(self, request: Any, context: Any) -> Any:
        self.banks[request.name] = {}
        self.described[request.name] = retriever_pb2.Bank(name=request.name)
        return retriever_pb2.RestoreBankResponse(bank=self._describe(request.name))

    def AddDocuments(self, requests: Any, context: Any) -> Iterator[Any]:
        for request in requests:
            self.gate.wait(10)
            bank = self._bank(request.bank)
            self.batch_sizes.append(len(request.documents))
            self.batch_bytes.append(request.ByteSize())
            results = [self._add(bank, doc, request.replace) for doc in request.documents]
            yield retriever_pb2.AddDocumentsResponse(results=results)

    def _add(self, bank: Any, document: Any, replace: bool) -> Any:
        if FULL_WORD in document.text:
            raise StorageFullError("the disk is full", remedy="free some space")
        if SLOW_WORD in document.text:
            time.sleep(1.0)
        result = retriever_pb2.AddDocumentResult(source=document.source)
        if BAD_WORD in document.text:
            result.error.reason, result.error.message = "INVALID_FIELD", "not this text"
            result.error.field = "text"
            return result
        kept = set()
        for part in filter(str.strip, document.text.split("\n\n")):
            reference = memory_pb2.Reference(
                text=part, source=document.source, title=document.title, metadata=document.metadata
            )
            reference.id = reference_id(reference)
            kept.add(reference.id)
            result.reference_ids.append(reference.id)
            result.num_existing += reference.id in bank
            result.num_added += reference.id not in bank
            stored = bank.setdefault(reference.id, reference)
            if replace and stored.metadata != reference.metadata:
                result.num_updated += 1
                bank[reference.id] = reference
        if replace and document.source:
            for id_ in [i for i, r in bank.items() if r.source == document.source]:
                if id_ not in kept:
                    del bank[id_]
                    result.num_removed += 1
        return result

    def AddReferences(self, requests: Any, context: Any) -> Iterator[Any]:
        for request in requests:
            bank = self._bank(request.bank)
            self.batch_sizes.append(len(request.references))
            response = retriever_pb2.AddReferencesResponse()
            for reference in request.references:
                result = response.results.add(id=reference_id(reference))
                if len(reference.text.split()) > 128:
                    result.error.reason, result.error.message = "INVALID_FIELD", "too long"
                    continue
                result.added = result.id not in bank
                reference.id = result.id
                bank[result.id] = reference
            yield response

    def GetReference(self, request: Any, context: Any) -> Any:
        reference = self._bank(request.bank).get(request.id)
        if reference is None:
            raise NotFoundError(f"there is no reference {request.id}", field="id")
        return retriever_pb2.GetReferenceResponse(reference=reference, memory_bytes=100)

    def ListReferences(self, request: Any, context: Any) -> Any:
        bank = self._bank(request.bank)
        ids = sorted(i for i, r in bank.items() if _inside(r.source, request.source))
        page, token = _page(ids, request)
        return retriever_pb2.ListReferencesResponse(
            references=[bank[id_] for id_ in page], next_page_token=token
        )

    def ListSources(self, request: Any, context: Any) -> Any:
        sources = {r.source for r in self._bank(request.bank).values() if r.source}
        page, token = _page(sorted(s for s in sources if _inside(s, request.source)), request)
        return retriever_pb2.ListSourcesResponse(sources=page, next_page_token=token)

    def DeleteReferences(self, request: Any, context: Any) -> Any:
        bank = self._bank(request.bank)
        ids = set(request.ids)
        missing = len(ids - bank.keys())
        if request.source:
            ids |= {i for i, r in bank.items() if _inside(r.source, request.source)}
        ids |= {i for i, r in bank.items() if r.source in request.exact_sources}
        deleted = sum(bank.pop(id_, None) is not None for id_ in ids)
        return retriever_pb2.DeleteReferencesResponse(num_deleted=deleted, num_missing=missing)

    def _found(self, bank: str, query: Any, k: int) -> list[tuple[float, memory_pb2.Reference]]:
        references = self._bank(bank)
        if query.WhichOneof("what") == "references":
            return [(0.0, references[id_]) for id_ in query.references.ids]
        words = set(query.text.lower().replace("?", "").split())
        scored = [
            (len(words & set(r.text.lower().strip().rstrip(".").split())) / (len(words) or 1), r)
            for r in references.values()
        ]
        return sorted(scored, key=lambda pair: (-pair[0], pair[1].id))[:k]

    def Search(self, request: Any, context: Any) -> Any:
        if any(query.WhichOneof("what") == "vector" for query in request.queries):
            raise InvalidArgumentError("3 is not 384", field="queries[0].vector")
        response = retriever_pb2.SearchResponse()
        for query in request.queries:
            result = response.results.add()
            for score, reference in self._found(request.bank, query, request.k or 5):
                result.hits.add(score=score, reference=reference)
        return response

    def Retrieve(self, request: Any, context: Any) -> Iterator[Any]:
        if request.checkpoint_digest != DIGEST:
            raise CheckpointMismatchError(
                "another checkpoint",
                field="checkpoint_digest",
                expected=DIGEST,
                actual=request.checkpoint_digest,
            )
        sent: list[str] = []
        for index, query in enumerate(request.queries):
            result = retriever_pb2.RetrieveResult(query_index=index, revision=7)
            for score, reference in self._found(request.bank, query, request.k or 5):
                held = reference.id in request.held_ids
                result.hits.add(
                    reference_id=reference.id,
                    score=score,
                    memory_status=(
                        memory_pb2.MEMORY_STATUS_HELD if held else memory_pb2.MEMORY_STATUS_SENT
                    ),
                    reference=reference if request.with_references else None,
                )
                if not held and reference.id not in sent:
                    sent.append(reference.id)
            yield retriever_pb2.RetrieveResponse(result=result)
        for id_ in sent:
            envelope = envelope_of(id_)
            for offset in range(0, len(envelope), 400):
                piece = retriever_pb2.MemoryPiece(
                    reference_id=id_,
                    offset=offset,
                    total_bytes=len(envelope),
                    data=envelope[offset : offset + 400],
                )
                yield retriever_pb2.RetrieveResponse(piece=piece)

    def GetInfo(self, request: Any, context: Any) -> Any:
        return retriever_pb2.RetrieverServiceGetInfoResponse(
            checkpoint=CHECKPOINT, indexes=["exact"], cache="local", num_banks=len(self.banks)
        )


def _inside(name: str, source: str) -> bool:
    is_prefix = not source or source.endswith("/")
    return name == source or name.startswith(source if is_prefix else f"{source}#")


def envelope_of(id_: str) -> bytes:
    """A stand-in for the memory of a reference: some bytes that only it has."""
    return hashlib.sha256(id_.encode()).digest() * 31


def _page(items: list[str], request: Any) -> tuple[list[str], str]:
    start = int(request.page_token or 0)
    end = start + (request.page_size or 100)
    return items[start:end], str(end) if end < len(items) else ""
