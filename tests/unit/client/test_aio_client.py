"""The asyncio client against small services on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from memory3.client import AsyncClient, Document
from memory3.errors import (
    BackendUnavailableError,
    DeadlineExceededError,
    NotFoundError,
    StorageFullError,
)
from memory3.sdk.answers import ChunkMemories, Finish, TextDelta
from tests.unit.client.memory_retriever import DIGEST, envelope_of
from tests.unit.client.servers import Services


async def test_text_goes_in_and_an_answer_comes_out(aio_client: AsyncClient) -> None:
    """Making a bank, adding and asking works when awaited."""
    await aio_client.create_bank("docs")
    report = await aio_client.add("docs", ["Ada lives in Turin", "Bob sails"])
    assert report.num_added == 2
    answer = await aio_client.ask("Where does Ada live?", bank="docs", max_tokens=1)
    assert answer.text == "w0"
    hits = await aio_client.search("docs", "Bob", k=1)
    assert hits[0].reference.text == "Bob sails"


async def test_batches_are_acknowledged_in_order(
    aio_client: AsyncClient, services: Services
) -> None:
    """Progress comes batch by batch in the order of the documents."""
    await aio_client.create_bank("docs")
    progress: list[str] = []
    await aio_client.add(
        "docs",
        [Document(f"text {number}", source=f"s{number}") for number in range(7)],
        max_documents=3,
        on_durable=lambda results: progress.extend(result.source for result in results),
    )
    assert services.retriever.batch_sizes == [3, 3, 1]
    assert progress == [f"s{number}" for number in range(7)]


async def test_errors_are_typed_in_every_kind_of_call(aio_client: AsyncClient) -> None:
    """Unary, paged, streamed, folded and batched calls all raise the server's error."""
    with pytest.raises(NotFoundError):
        await aio_client.get_bank("nothing")
    with pytest.raises(NotFoundError):
        async for _ in aio_client.list_references("nothing"):
            pass
    with pytest.raises(NotFoundError):
        async for _ in aio_client.stream("p", bank="nothing"):
            pass
    with pytest.raises(NotFoundError):
        await aio_client.generate("p", bank="nothing")
    with pytest.raises(NotFoundError):
        await aio_client.add("nothing", ["a"] * 10, max_documents=1)


async def test_failure_in_the_middle_keeps_what_was_durable(aio_client: AsyncClient) -> None:
    """When the server fails, earlier batches have been told and the typed error comes out."""
    await aio_client.create_bank("docs")
    durable: list[int] = []
    with pytest.raises(StorageFullError):
        await aio_client.add(
            "docs",
            ["a", "disk-full", "b", "c", "d"],
            max_documents=1,
            on_durable=lambda results: durable.append(len(results)),
        )
    assert durable == [1]


async def test_error_of_the_callers_iterator_is_the_callers(aio_client: AsyncClient) -> None:
    """An exception while the next document is made comes out as it is."""

    def documents() -> Iterator[str]:
        yield "one"
        raise KeyError("mine")

    await aio_client.create_bank("docs")
    with pytest.raises(KeyError, match="mine"):
        await aio_client.add("docs", documents(), max_documents=1)


async def test_slow_acknowledgement_is_a_deadline(aio_client: AsyncClient) -> None:
    """A batch that is not acknowledged in time raises."""
    await aio_client.create_bank("docs")
    with pytest.raises(DeadlineExceededError):
        await aio_client.add("docs", "slow", timeout=0.2)


async def test_pages_and_events_are_asynchronous_iterators(aio_client: AsyncClient) -> None:
    """Lists follow their pages; a stream yields events in order."""
    for number in range(5):
        await aio_client.create_bank(f"bank-{number}")
    assert [bank.name async for bank in aio_client.list_banks(page_size=2)] == [
        f"bank-{number}" for number in range(5)
    ]
    events = [event async for event in aio_client.stream("p", max_tokens=1)]
    assert [type(event) for event in events] == [ChunkMemories, TextDelta, Finish]


async def test_memories_are_joined(aio_client: AsyncClient) -> None:
    """Retrieve gives whole envelopes."""
    await aio_client.create_bank("docs")
    (id_,) = (await aio_client.add("docs", "Ada lives")).reference_ids
    found = await aio_client.retrieve("docs", "Ada", k=1, checkpoint_digest=DIGEST)
    assert found.memories == {id_: envelope_of(id_)}


async def test_cancelling_the_task_cancels_the_call(
    aio_client: AsyncClient, services: Services
) -> None:
    """A cancelled task ends the work on the server."""
    task = asyncio.create_task(aio_client.generate("forever", max_tokens=10_000))
    while not services.decoder.requests:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(services.decoder.cancelled.wait, 5)


async def test_many_requests_run_side_by_side(aio_client: AsyncClient) -> None:
    """Gathered requests all come back, each with its own answer."""
    answers = await asyncio.gather(
        *(aio_client.generate("p", max_tokens=number) for number in range(1, 9))
    )
    assert [len(answer.token_ids) for answer in answers] == list(range(1, 9))


async def test_nothing_listening_says_how_to_start() -> None:
    """An address where nobody answers is told with the command that helps."""
    async with AsyncClient(decoder="127.0.0.1:1") as client:
        with pytest.raises(BackendUnavailableError) as caught:
            await client.decoder_info(timeout=5)
    assert "memory3 up" in (caught.value.remedy or "")


async def test_server_error_while_writing_is_not_lost(aio_client: AsyncClient) -> None:
    """However the failure of the call and the writing of batches meet, the server's error comes."""
    for _ in range(100):
        with pytest.raises(NotFoundError):
            await aio_client.add("nothing", ["a" * 10_000] * 8, max_documents=1)
