"""Services that are asked to leave while they work: what is in flight is finished, exit code 0."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from memory3.client import Client
from memory3.errors import UnavailableError
from memory3.launcher import LocalServices
from memory3.launcher.process import ServiceProcess
from memory3.rpc.channel import connect
from memory3.rpc.status import typed_errors
from memory3.sdk.answers import TextDelta
from memory3.v1 import encoder_pb2, encoder_pb2_grpc, memory_pb2, retriever_pb2, retriever_pb2_grpc
from tests.e2e.chain import PATIENCE_S, options, people, prompts_about, say, start, until

pytestmark = pytest.mark.e2e

SEED = 71
NUM_STREAMS = 6
LONG = 300


@pytest.fixture
def client(fragile: LocalServices) -> Iterator[Client]:
    """A client of the services that are asked to leave."""
    with fragile.client() as connected:
        yield connected


def ended_with(process: ServiceProcess) -> int | None:
    """What a process ends with that was asked to leave."""
    until(lambda: process.exit_code is not None)
    return process.exit_code


def test_decoder_finishes_its_streams(client: Client, fragile: LocalServices, bank: str) -> None:
    """Streams that have begun are told to their end, with memories; new calls are turned away."""
    client.create_bank(bank)
    client.add(bank, people(10, SEED))
    prompt = prompts_about(SEED)[1]
    wishes = options(max_tokens=LONG)
    expected = say(client, prompt, bank, max_tokens=LONG)
    decoder = fragile.processes["decoder"]
    begun = threading.Barrier(NUM_STREAMS + 1)

    def stream(_: int) -> tuple[int, ...]:
        tokens: list[int] = []
        events = client.stream(prompt, bank, **wishes)
        for event in events:
            if isinstance(event, TextDelta):
                if not tokens:
                    begun.wait(PATIENCE_S)
                tokens.extend(event.token_ids)
        return tuple(tokens)

    with ThreadPoolExecutor(NUM_STREAMS) as pool:
        streams = pool.map(stream, range(NUM_STREAMS))
        begun.wait(PATIENCE_S)
        decoder.send_signal(signal.SIGTERM)
        assert list(streams) == [expected[0].token_ids] * NUM_STREAMS
    with pytest.raises(UnavailableError):
        client.generate("Who?", timeout=10.0)
    assert ended_with(decoder) == 0


def test_retriever_finishes_its_streams(client: Client, fragile: LocalServices, bank: str) -> None:
    """A stream of additions that has begun may go on to its end, and all of it is durable."""
    client.create_bank(bank)
    retriever = fragile.processes["retriever"]
    batches = [
        retriever_pb2.AddDocumentsRequest(
            bank=f"banks/{bank}",
            documents=[
                retriever_pb2.Document(text=document.text, source=document.source)
                for document in people(4, SEED + number)
            ],
        )
        for number in range(6)
    ]
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with connect(retriever.address, retries=False) as channel:
        stub: Any = retriever_pb2_grpc.RetrieverServiceStub(channel)
        with typed_errors():
            answers = stub.AddDocuments(iter(requests.get, None), timeout=PATIENCE_S)
            requests.put(batches[0])
            acknowledged = list(next(answers).results)
            retriever.send_signal(signal.SIGTERM)
            until(lambda: not accepts(retriever.address))
            assert retriever.exit_code is None
            for batch in batches[1:]:
                requests.put(batch)
                acknowledged.extend(next(answers).results)
            requests.put(None)
            assert list(answers) == []
    assert ended_with(retriever) == 0
    start(fragile, "retriever", client)
    added = {id for result in acknowledged for id in result.reference_ids}
    assert len(acknowledged) == 24
    assert {reference.id for reference in client.list_references(bank)} == added


def test_encoder_finishes_its_streams(fragile: LocalServices) -> None:
    """Of a request that has begun every reference is answered."""
    encoder = fragile.processes["encoder"]
    references = [
        memory_pb2.Reference(text=f"{number} {document.text[:120]}")
        for number, document in enumerate(people(1000, SEED))
    ]
    request = encoder_pb2.EncodeRequest(references=references, with_vectors=True)
    with connect(encoder.address, retries=False) as channel:
        stub: Any = encoder_pb2_grpc.EncoderServiceStub(channel)
        with typed_errors():
            # So many that a fast machine has work left when the port is closed.
            streams = [stub.Encode(request, timeout=PATIENCE_S) for _ in range(NUM_STREAMS)]
            answered = [[next(answers)] for answers in streams]
            encoder.send_signal(signal.SIGTERM)
            until(lambda: not accepts(encoder.address))
            assert encoder.exit_code is None
            for own, answers in zip(answered, streams, strict=True):
                own.extend(answers)
    for own in answered:
        assert sorted(answer.index for answer in own) == list(range(1000))
        assert not any(answer.HasField("error") for answer in own)
    assert ended_with(encoder) == 0


def accepts(address: str) -> bool:
    """Whether a new connection gets an answer."""
    with connect(address, retries=False) as channel:
        ready = grpc.channel_ready_future(channel)
        try:
            ready.result(timeout=0.5)
        except grpc.FutureTimeoutError:
            ready.cancel()
            return False
    return True
