"""The methods that find references, and hand out their memories."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from memory3.observability import tracing
from memory3.v1 import memory_pb2, retriever_pb2
from memory3_retriever import convert, convert_filter
from memory3_retriever import validation as check
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.names import reference_key
from memory3_retriever.bank.records import Reference
from memory3_retriever.indexes.base import Hit
from memory3_retriever.limits import CallLimit
from memory3_retriever.retrieval.search import Found
from memory3_retriever.servicer_base import ServicerBase

PIECE_BYTES = 512 << 10
# How much of the caller's time is left to answer when missing memories were waited for.
_ANSWER_S = 0.05
_ANSWER_SHARE = 0.1
_NO_DEADLINE_WAIT_S = 300.0


class RetrievalMethods(ServicerBase):
    """Search and retrieve."""

    def Search(
        self, request: retriever_pb2.SearchRequest, context: grpc.ServicerContext
    ) -> retriever_pb2.SearchResponse:
        """See the proto."""
        k = check.within("k", request.k, 0, check.MAX_K) or check.DEFAULT_K
        bank = self._bank(request.bank, "bank")
        queries = convert.queries(request.queries, bank.info.embedder.dimensions)
        tracing.current().set(bank=bank.info.name, num_queries=len(queries), k=k)
        where = convert_filter.where(request.filter)
        found = self._model(bank).searcher.find(bank, queries, k, CallLimit(context), where)
        references = _references(bank, found)
        response = retriever_pb2.SearchResponse()
        for hits in found.hits:
            result = response.results.add()
            for hit in hits:
                # One that was deleted since the search is no hit any more.
                if hit.key in references:
                    message = convert.reference_message(references[hit.key])
                    result.hits.add(reference=message, score=hit.score)
        return response

    def Retrieve(
        self, request: retriever_pb2.RetrieveRequest, context: grpc.ServicerContext
    ) -> Iterator[retriever_pb2.RetrieveResponse]:
        """See the proto."""
        k = check.within("k", request.k, 0, check.MAX_K) or check.DEFAULT_K
        digest = check.required_digest("checkpoint_digest", request.checkpoint_digest)
        check.count_within("held_ids", request.held_ids, 0, check.MAX_HELD_IDS)
        held = {reference_key(id, f"held_ids[{i}]") for i, id in enumerate(request.held_ids)}
        limit = CallLimit(context)
        wait_s = _wait_seconds(request, limit)
        bank = self._bank(request.bank, "bank")
        bank.require_checkpoint(digest)
        model = self._model(bank)
        queries = convert.queries(request.queries, bank.info.embedder.dimensions)
        span = tracing.current()
        span.set(bank=bank.info.name, num_queries=len(queries), k=k, num_held=len(held))
        where = convert_filter.where(request.filter)
        found = model.searcher.find(bank, queries, k, limit, where)
        if request.with_references:
            references = _references(bank, found)
            existing = set(references)
        else:
            references, existing = {}, found.existing
        wanted = [key for key in found.keys if key in existing and key not in held]
        there, waited = model.memories.ensure(bank, set(wanted), wait_s)
        limit.check()
        if waited:
            # Writing may have taken until some of them expired.
            existing = bank.store.existing(existing)
            there &= existing
        # The first are read before anything is sent, so that a fault is the call's only answer, and
        # one that was deleted since the search is no hit any more.
        gone, memories = model.memories.read(bank, [key for key in wanted if key in there])
        existing, there = existing - gone, there - gone
        span.set(
            revision=found.revision,
            num_hits=sum(map(len, found.hits)),
            num_sent=len(there),
            num_left_out=len(existing - there - held),
        )
        for index, hits in enumerate(found.hits):
            live = [hit for hit in hits if hit.key in existing]
            statuses = [_status(hit.key, held, there) for hit in live]
            yield retriever_pb2.RetrieveResponse(
                result=_result(index, live, statuses, references, found.revision)
            )
        for key, envelope in memories:
            yield from _pieces(key, envelope)
        unsent = existing - there
        model.memories.count_unsent(len(unsent & held), len(unsent - held))


def _references(bank: LiveBank, found: Found) -> dict[bytes, Reference]:
    return bank.store.get(found.keys)


def _wait_seconds(request: retriever_pb2.RetrieveRequest, limit: CallLimit) -> float:
    """How long missing memories are waited for: as asked, and within the deadline."""
    left = limit.timeout(_NO_DEADLINE_WAIT_S)
    left -= max(_ANSWER_S, min(1.0, _ANSWER_SHARE * left))
    if request.HasField("encode_timeout"):
        asked = request.encode_timeout.seconds + request.encode_timeout.nanos * 1e-9
        if asked < 0:
            raise check.invalid("encode_timeout", f"{asked:g} s is below 0", "use 0 s or more")
        left = min(left, asked)
    return max(0.0, left)


def _status(key: bytes, held: set[bytes], there: set[bytes]) -> memory_pb2.MemoryStatus.ValueType:
    if key in held:
        return memory_pb2.MEMORY_STATUS_HELD
    return memory_pb2.MEMORY_STATUS_SENT if key in there else memory_pb2.MEMORY_STATUS_LEFT_OUT


def _result(
    index: int,
    hits: list[Hit],
    statuses: list[memory_pb2.MemoryStatus.ValueType],
    references: dict[bytes, Reference],
    revision: int,
) -> retriever_pb2.RetrieveResult:
    result = retriever_pb2.RetrieveResult(query_index=index, revision=revision)
    for hit, status in zip(hits, statuses, strict=True):
        message = result.hits.add(reference_id=hit.key.hex(), score=hit.score, memory_status=status)
        if hit.key in references:
            message.reference.CopyFrom(convert.reference_message(references[hit.key]))
    return result


def _pieces(key: bytes, envelope: bytes) -> Iterator[retriever_pb2.RetrieveResponse]:
    for offset in range(0, len(envelope), PIECE_BYTES):
        response = retriever_pb2.RetrieveResponse()
        # In place: a piece made apart would be copied into the response.
        piece = response.piece
        piece.reference_id, piece.offset, piece.total_bytes = key.hex(), offset, len(envelope)
        piece.data = envelope[offset : offset + PIECE_BYTES]
        yield response
