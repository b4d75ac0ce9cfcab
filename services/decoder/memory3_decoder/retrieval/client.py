"""One Retrieve call: queries go out, hits and whole envelopes come back, checked for completeness.

It knows the retriever by its contract only and looks into no envelope. A stream that breaks off,
contradicts itself or names memories it was not told about is an error as a whole: half an answer
is never used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc

from memory3.errors import CorruptDataError, Memory3Error
from memory3.observability import tracing
from memory3.rpc.channel import connect
from memory3.rpc.context import call_metadata
from memory3.rpc.logging import get_logger
from memory3.rpc.security.caller import caller_token
from memory3.rpc.security.outgoing import Outgoing
from memory3.rpc.status import DETAILS_KEY, from_rpc_error
from memory3.v1 import memory_pb2, retriever_pb2, retriever_pb2_grpc

_log = get_logger(__name__)

_RETRIEVE = "memory3.v1.RetrieverService/Retrieve"

MAX_QUERIES = 256  # of one call, by the contract

# Memories that are not written yet may take this part of the call's time: then the retriever can
# still send what it has before the deadline.
_ENCODE_SHARE = 0.8


@dataclass(frozen=True)
class TextQuery:
    """Search with a text."""

    text: str


@dataclass(frozen=True)
class IdQuery:
    """Take these references, without a search."""

    ids: tuple[str, ...]


@dataclass(frozen=True)
class Hit:
    """One reference found.

    Attributes:
        reference_id: Its id.
        score: Cosine of query and reference.
        status: What became of its memory, a ``MemoryStatus``.
        reference: Text and origin, if asked for.
    """

    reference_id: str
    score: float
    status: int
    reference: memory_pb2.Reference | None


@dataclass
class Retrieved:
    """A whole answer.

    Attributes:
        results: Hits of each query, likeliest first.
        envelopes: Bytes of each memory sent, by reference id.
        revision: The bank's revision that was searched.
    """

    results: list[list[Hit]] = field(default_factory=list)
    envelopes: dict[str, bytes] = field(default_factory=dict)
    revision: int = 0


class RetrieverClient:
    """Calls the retriever; make it where the event loop runs.

    Args:
        target: ``HOST:PORT`` or another gRPC target.
        checkpoint_digest: The only checkpoint whose memories may come.
        max_envelope_bytes: No memory of this checkpoint is larger.
        outgoing: What to connect and call with. The caller's token goes before the decoder's own,
            so that nobody reads through a decoder what they may not read themselves.
    """

    def __init__(
        self,
        target: str,
        checkpoint_digest: str,
        *,
        max_envelope_bytes: int,
        outgoing: Outgoing | None = None,
    ) -> None:
        self._outgoing = outgoing or Outgoing()
        self.target = target
        self._digest = checkpoint_digest
        self._max_envelope_bytes = max_envelope_bytes
        self._channel = connect(
            target,
            aio=True,
            credentials=self._outgoing.credentials(),
            server_name=self._outgoing.tls_name,
        )
        self._stub = retriever_pb2_grpc.RetrieverServiceStub(self._channel)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def retrieve(
        self,
        bank: str,
        queries: Sequence[TextQuery | IdQuery],
        *,
        k: int,
        held_ids: Sequence[str],
        timeout_s: float,
        with_references: bool,
    ) -> Retrieved:
        """Ask once.

        Args:
            bank: Resource name of the bank.
            queries: 1 to 256 queries.
            k: References for each query.
            held_ids: References whose memories need not be sent.
            timeout_s: Seconds for the whole answer.
            with_references: Ask for text and origin of each hit.

        Raises:
            Memory3Error: What the retriever answered, or that it did not.
            CorruptDataError: The answer is incomplete or contradicts itself.
        """
        request = retriever_pb2.RetrieveRequest(
            bank=bank,
            queries=[_to_query(query) for query in queries],
            k=k,
            held_ids=held_ids,
            checkpoint_digest=self._digest,
            with_references=with_references,
        )
        request.encode_timeout.FromNanoseconds(int(timeout_s * _ENCODE_SHARE * 1e9))
        with tracing.span(
            _RETRIEVE, "client", bank=bank, num_queries=len(queries), k=k, num_held=len(held_ids)
        ) as span:
            metadata = call_metadata(caller_token() or self._outgoing.bearer())
            call = self._stub.Retrieve(request, timeout=timeout_s, metadata=metadata)
            assembly = _Assembly(self._max_envelope_bytes)
            try:
                async for response in call:
                    assembly.add(response)
            except grpc.aio.AioRpcError as error:
                raise _typed(error) from error
            finally:
                call.cancel()
            retrieved = assembly.finish(len(queries), frozenset(held_ids))
            span.set(
                num_hits=sum(map(len, retrieved.results)),
                num_memories=len(retrieved.envelopes),
                num_bytes=sum(map(len, retrieved.envelopes.values())),
                revision=retrieved.revision,
            )
            return retrieved


class _Assembly:
    """Puts the messages of one answer together."""

    def __init__(self, max_envelope_bytes: int) -> None:
        self._max_bytes = max_envelope_bytes
        self._retrieved = Retrieved()
        self._parts: dict[str, bytearray] = {}
        self._sizes: dict[str, int] = {}

    def add(self, response: retriever_pb2.RetrieveResponse) -> None:
        """Take the next message."""
        part = response.WhichOneof("part")
        if part == "result":
            self._add_result(response.result)
        elif part == "piece":
            self._add_piece(response.piece)

    def finish(self, num_queries: int, held: frozenset[str]) -> Retrieved:
        """The whole answer, if it is whole."""
        results = self._retrieved.results
        if len(results) != num_queries:
            raise _broken(f"{len(results)} results for {num_queries} queries")
        for hit in (hit for hits in results for hit in hits):
            if hit.status == memory_pb2.MEMORY_STATUS_HELD and hit.reference_id not in held:
                raise _broken("a memory is said to be held that is not")
            if hit.status == memory_pb2.MEMORY_STATUS_SENT:
                self._take(hit.reference_id)
        return self._retrieved

    def _add_result(self, result: retriever_pb2.RetrieveResult) -> None:
        if result.query_index != len(self._retrieved.results):
            raise _broken(f"result {result.query_index} is out of order")
        self._retrieved.revision = result.revision
        self._retrieved.results.append(
            [
                Hit(
                    hit.reference_id,
                    hit.score,
                    hit.memory_status,
                    hit.reference if hit.HasField("reference") else None,
                )
                for hit in result.hits
            ]
        )

    def _add_piece(self, piece: retriever_pb2.MemoryPiece) -> None:
        if not 0 < piece.total_bytes <= self._max_bytes:
            raise _broken(f"a memory of {piece.total_bytes} bytes, at most {self._max_bytes} fit")
        so_far = self._parts.setdefault(piece.reference_id, bytearray())
        size = self._sizes.setdefault(piece.reference_id, piece.total_bytes)
        if piece.total_bytes != size or piece.offset != len(so_far):
            raise _broken("the pieces of a memory do not follow on each other")
        if len(so_far) + len(piece.data) > size:
            raise _broken("a memory is larger than it was said to be")
        so_far += piece.data

    def _take(self, reference_id: str) -> None:
        if reference_id in self._retrieved.envelopes:
            return
        part = self._parts.get(reference_id)
        if part is None or len(part) != self._sizes[reference_id]:
            raise _broken("a memory was promised and did not come whole")
        self._retrieved.envelopes[reference_id] = bytes(part)


def _to_query(query: TextQuery | IdQuery) -> retriever_pb2.Query:
    if isinstance(query, TextQuery):
        return retriever_pb2.Query(text=query.text)
    return retriever_pb2.Query(references=retriever_pb2.ReferenceIds(ids=query.ids))


def _typed(error: grpc.aio.AioRpcError) -> Memory3Error:
    """What the retriever answered; of a broken connection the caller learns no addresses."""
    typed = from_rpc_error(error)
    if DETAILS_KEY in dict(error.trailing_metadata() or ()):
        return typed
    code = error.code().name
    _log.warning("the retriever did not answer", code=code, details=error.details())
    return type(typed)(
        f"the retriever did not answer: {code}",
        field="retriever",
        remedy="look at the retriever's health and at the decoder's log",
    )


def _broken(message: str) -> CorruptDataError:
    return CorruptDataError(
        f"the retriever's answer is broken: {message}",
        field="retriever",
        remedy="check that retriever and decoder are of the same version, then its log",
    )
