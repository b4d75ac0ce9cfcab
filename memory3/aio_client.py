"""``AsyncClient``: the Python SDK for asyncio. The same methods as ``memory3.Client``, awaited.

    async with memory3.AsyncClient() as client:
        answer = await client.ask("Where does Ada live?", bank="docs")

``list_banks``, ``list_references`` and ``stream`` are asynchronous iterators. This module must not
build requests or read responses: ``memory3.sdk`` does, for both clients.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc

from memory3.observability import tracing
from memory3.rpc.channel import connect
from memory3.rpc.context import call_metadata
from memory3.rpc.security.outgoing import Outgoing
from memory3.sdk import bank_calls, decoder_calls, operation_calls, reference_calls
from memory3.sdk.addresses import Stubs, address_of, as_method
from memory3.sdk.batch_streams import WINDOW, AioBatchStream
from memory3.sdk.call import Batched, Endpoint, Events, Folded, Paged, Unary
from memory3.sdk.spans import call_span, start_call_span

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
ItemT = TypeVar("ItemT")


def _unary(
    build: Callable[P, Unary[ResultT]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, ResultT]]:
    return as_method(build, lambda client, call: client._run_unary(call))


def _folded(
    build: Callable[P, Folded[ResultT]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, ResultT]]:
    return as_method(build, lambda client, call: client._run_folded(call))


def _events(
    build: Callable[P, Events[ItemT]],
) -> Callable[Concatenate[AsyncClient, P], AsyncIterator[ItemT]]:
    return as_method(build, lambda client, call: client._run_events(call))


def _paged(
    build: Callable[P, Paged[ItemT]],
) -> Callable[Concatenate[AsyncClient, P], AsyncIterator[ItemT]]:
    return as_method(build, lambda client, call: client._run_paged(call))


def _batched(
    build: Callable[P, Batched[ItemT, ResultT]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, ResultT]]:
    return as_method(build, lambda client, call: client._run_batched(call))


class AsyncClient:
    """Talks to the three services from one event loop.

    Connects when a method first needs a service. Close it, or use it in an ``async with`` block.

    Args:
        decoder: ``HOST:PORT``; None reads MEMORY3_DECODER, else ``127.0.0.1:7300``.
        retriever: ``HOST:PORT``; None reads MEMORY3_RETRIEVER, else ``127.0.0.1:7301``.
        encoder: ``HOST:PORT``; None reads MEMORY3_ENCODER, else ``127.0.0.1:7302``.
        timeout: Seconds for each call that is not given its own; None for each method's default.
        credentials: For TLS; None reads MEMORY3_TLS_CA, _CERT, _KEY and _NAME, else plaintext.
        token: The bearer token; None reads MEMORY3_TOKEN, else the file in MEMORY3_TOKEN_FILE.
        outgoing: What to connect and call with; then no variable is read, nor ``token``.

    Raises:
        InvalidArgumentError: An address is not ``HOST:PORT``.
    """

    def __init__(
        self,
        decoder: str | None = None,
        retriever: str | None = None,
        encoder: str | None = None,
        *,
        timeout: float | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | None = None,
        outgoing: Outgoing | None = None,
    ) -> None:
        self.timeout = timeout
        outgoing = outgoing or Outgoing.from_environment(token)
        credentials = credentials or outgoing.credentials()
        self._stubs = Stubs(
            {
                "decoder": address_of("decoder", decoder),
                "retriever": address_of("retriever", retriever),
                "encoder": address_of("encoder", encoder),
            },
            lambda target: connect(
                target, aio=True, credentials=credentials, server_name=outgoing.tls_name
            ),
            outgoing,
        )

    create_bank = _unary(bank_calls.create_bank)
    get_bank = _unary(bank_calls.get_bank)
    list_banks = _paged(bank_calls.list_banks)
    update_bank = _unary(bank_calls.update_bank)
    delete_bank = _unary(bank_calls.delete_bank)
    verify_bank = _unary(bank_calls.verify_bank)
    snapshot_bank = _unary(bank_calls.snapshot_bank)
    restore_bank = _unary(bank_calls.restore_bank)
    set_alias = _unary(operation_calls.set_alias)
    delete_alias = _unary(operation_calls.delete_alias)
    list_aliases = _unary(operation_calls.list_aliases)
    compact_bank = _unary(operation_calls.compact_bank)
    repair_bank = _unary(operation_calls.repair_bank)
    verify_snapshot = _unary(operation_calls.verify_snapshot)
    delete_snapshot = _unary(operation_calls.delete_snapshot)
    upload_snapshot = _unary(operation_calls.upload_snapshot)
    warm_bank = _events(operation_calls.warm_bank)
    reencode_bank = _events(operation_calls.reencode_bank)
    publish_bank = _unary(operation_calls.publish_bank)
    erase_references = _events(operation_calls.erase_references)
    download_snapshot = _events(operation_calls.download_snapshot)
    list_snapshots = _paged(operation_calls.list_snapshots)
    add = _batched(reference_calls.add)
    add_references = _batched(reference_calls.add_references)
    get_reference = _unary(reference_calls.get_reference)
    list_references = _paged(reference_calls.list_references)
    reference_page = _unary(reference_calls.reference_page)
    list_sources = _paged(reference_calls.list_sources)
    delete_references = _unary(reference_calls.delete_references)
    search = _unary(reference_calls.search)
    search_many = _unary(reference_calls.search_many)
    retrieve = _folded(reference_calls.retrieve)
    retriever_info = _unary(bank_calls.retriever_info)
    generate = _folded(decoder_calls.generate)
    stream = _events(decoder_calls.stream)
    ask = _folded(decoder_calls.ask)
    score = _unary(decoder_calls.score)
    tokenize = _unary(decoder_calls.tokenize)
    detokenize = _unary(decoder_calls.detokenize)
    decoder_info = _unary(decoder_calls.decoder_info)
    embed = _unary(decoder_calls.embed)
    encoder_info = _unary(decoder_calls.encoder_info)

    async def close(self) -> None:
        """Close the connections; the client cannot be used after."""
        for channel in self._stubs.close():
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _start(self, endpoint: Endpoint, request: Any, timeout: float | None) -> Any:
        method = self._stubs.method(endpoint)
        seconds = timeout or self.timeout or endpoint.default_timeout
        return method(request, timeout=seconds, metadata=call_metadata())

    @contextmanager
    def _errors(self, endpoint: Endpoint) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise self._stubs.error(endpoint, error) from error

    async def _run_unary(self, call: Unary[ResultT]) -> ResultT:
        with self._errors(call.endpoint), call_span(call.endpoint):
            response = await self._start(call.endpoint, call.request, call.timeout)
        return call.convert(response)

    async def _run_events(self, call: Events[ItemT]) -> AsyncIterator[ItemT]:
        span = start_call_span(call.endpoint)
        with tracing.use(span):
            responses = self._start(call.endpoint, call.request, call.timeout)
        try:
            with self._errors(call.endpoint), tracing.ending(span):
                async for response in responses:
                    item = call.convert(response)
                    if item is not None:
                        yield item
        finally:
            responses.cancel()

    async def _run_folded(self, call: Folded[ResultT]) -> ResultT:
        fold = call.new_fold()
        with self._errors(call.endpoint), call_span(call.endpoint):
            responses = self._start(call.endpoint, call.request, call.timeout)
            try:
                async for response in responses:
                    fold.feed(response)
            finally:
                responses.cancel()
        return fold.result()

    async def _run_paged(self, call: Paged[ItemT]) -> AsyncIterator[ItemT]:
        request = call.request
        while True:
            with self._errors(call.endpoint), call_span(call.endpoint):
                response = await self._start(call.endpoint, request, call.timeout)
            for item in call.items(response):
                yield item
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    async def _run_batched(self, call: Batched[ItemT, ResultT]) -> ResultT:
        timeout = call.timeout or self.timeout or call.endpoint.default_timeout
        collected: list[ItemT] = []
        sending = AioBatchStream(self._stubs.method(call.endpoint), timeout)

        async def receive() -> None:
            with self._errors(call.endpoint):
                response = await sending.receive()
            items = call.items(response)
            collected.extend(items)
            if call.on_durable is not None:
                call.on_durable(items)

        with call_span(call.endpoint):
            try:
                for request in call.requests:
                    if sending.num_waiting >= WINDOW:
                        await receive()
                    with self._errors(call.endpoint):
                        await sending.send(request)
                while sending.num_waiting:
                    await receive()
            finally:
                sending.cancel()
        return call.collect(collected)
