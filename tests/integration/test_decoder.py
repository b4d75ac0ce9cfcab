"""The decoder over gRPC on loopback: the answers of the engine, the manners of a service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from random import Random
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from memory3_decoder.decoder import Decoder
from memory3_decoder.service import SERVICE, DecoderService
from memory3_decoder.settings import DecoderSettings
from prometheus_client import CollectorRegistry

from memory3.checkpoint import Checkpoint
from memory3.errors import (
    CheckpointMismatchError,
    InvalidArgumentError,
    LoadingError,
    NotFoundError,
    QueueFullError,
    UnavailableError,
)
from memory3.people import iter_documents
from memory3.rpc.channel import connect
from memory3.rpc.context import REQUEST_ID_KEY
from memory3.rpc.status import from_rpc_error, typed_errors
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import decoder_pb2 as pb
from memory3.v1 import decoder_pb2_grpc
from tests.unit.decoder.calls import collect
from tests.unit.decoder.held_model import HeldModel
from tests.unit.decoder.scripted_retriever import BANK, ScriptedRetriever

CHUNK_LENGTH = 16
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny checkpoint with short chunks."""
    path = tmp_path_factory.mktemp("checkpoint") / "tiny"
    return tiny_checkpoint(path, chunk_length=CHUNK_LENGTH, references_per_chunk=3)


@pytest.fixture
def retriever(checkpoint: Checkpoint) -> Iterator[ScriptedRetriever]:
    """A running retriever."""
    texts = [text.replace("\n", " ")[:200] for text in iter_documents(Random(7), 20)]
    with ScriptedRetriever(checkpoint, texts) as running:
        yield running


class Client:
    """A decoder that is served, its stub, and what it has counted."""

    def __init__(self, service: DecoderService, registry: CollectorRegistry) -> None:
        self.service = service
        self.registry = registry
        self.channel = connect(service.server.address, aio=True, retries=False)
        self.stub: Any = decoder_pb2_grpc.DecoderServiceStub(self.channel)

    @property
    def decoder(self) -> Decoder:
        """The decoder behind the service."""
        assert self.service.decoder is not None
        return self.service.decoder

    async def generate(self, **fields: Any) -> list[pb.GenerateResponse]:
        """All events of a call; a failed call raises its typed error."""
        with typed_errors():
            return [event async for event in self.stub.Generate(pb.GenerateRequest(**fields))]

    async def until_idle(self) -> None:
        """Wait until every slot is free."""
        async with asyncio.timeout(60.0):
            while self.decoder.engine.num_running or self.decoder.engine.num_waiting:
                await asyncio.sleep(0.005)


Serve = Callable[..., Awaitable[Client]]


@pytest.fixture
async def serve(checkpoint: Checkpoint, retriever: ScriptedRetriever) -> AsyncIterator[Serve]:
    """Serves decoders; keyword arguments are settings."""
    clients: list[Client] = []

    async def make(load: bool = True, **changes: Any) -> Client:
        given: dict[str, Any] = {
            "checkpoint": checkpoint.path,
            "retriever": retriever.address,
            "port": 0,
            "model_in": "thread",
            "num_slots": 4,
            "retrieval_timeout_s": 60.0,
        }
        registry = CollectorRegistry()
        service = DecoderService(DecoderSettings.load(**{**given, **changes}), registry)
        await service.server.start()
        clients.append(Client(service, registry))
        if load:
            await service.load()
            await service.server.health.set_ready()
        return clients[-1]

    yield make
    for client in clients:
        await client.channel.close()
        await client.service.server.stop(0)
        await client.service.close()


def text_of(events: list[pb.GenerateResponse], choice: int = 0) -> str:
    """The text of a choice."""
    return "".join(event.delta.text for event in events if event.delta.choice == choice)


def tokens_of(events: list[pb.GenerateResponse], choice: int = 0) -> list[int]:
    """The tokens of a choice."""
    deltas = (event.delta for event in events if event.HasField("delta"))
    return [token for delta in deltas if delta.choice == choice for token in delta.token_ids]


WISHES: dict[str, dict[str, Any]] = {
    "plain": {"prompt": "Where was she born ?"},
    "memories": {"prompt": "Where was she born ? " * 6, "bank": BANK},
    "sampled": {
        "prompt": "Who ?",
        "bank": BANK,
        "sampling": pb.SamplingParameters(
            temperature=0.9, top_p=0.9, seed=5, n=2, max_tokens=40, logprobs=2, ignore_eos=True
        ),
        "memory": pb.MemoryOptions(report=True, with_references=True),
    },
    "stopped": {
        "prompt": "Who ?",
        "sampling": pb.SamplingParameters(temperature=1.0, seed=1, stop=["e", "a"]),
    },
    "empty": {},
}


@pytest.mark.parametrize("name", WISHES)
async def test_over_grpc_and_in_process_give_the_same(serve: Serve, name: str) -> None:
    """Text, tokens, chunks and finish of every kind of request agree on both ways."""
    client = await serve()
    message = pb.GenerateRequest(**WISHES[name])
    answers = await collect(
        client.decoder.engine.generate(client.decoder.requests.generation(message, None))
    )
    events = await client.generate(**WISHES[name])
    finishes = {event.finish.choice: event.finish for event in events if event.HasField("finish")}
    assert len(finishes) == len(answers)
    for choice, answer in enumerate(answers):
        finish = finishes[choice]
        assert (text_of(events, choice), tokens_of(events, choice)) == (answer.text, answer.tokens)
        chunks = [
            event.attached
            for event in events
            if event.HasField("attached") and event.attached.choice == choice
        ]
        assert [[r.id for r in c.references] for c in chunks] == answer.chunk_ids
        assert [c.start_token for c in chunks] == [c.start_token for c in answer.attached]
        assert (finish.stop, finish.degraded) == (answer.end.stop, False)
        assert finish.reason == pb.FinishReason.Value(f"FINISH_REASON_{answer.end.reason.name}")
        assert finish.usage.completion_tokens == len(answer.tokens)
        masses = [r.attention_mass for c in finish.chunks for r in c.references]
        expected = [r.attention_mass for c in answer.end.chunks for r in c.references]
        assert masses == pytest.approx(expected, abs=1e-5)
        logprobs = [p for event in events for p in event.delta.logprobs]
        if choice == 0 and len(answers) == 1:
            assert [p.token_id for p in logprobs] == [p.token_id for p in answer.logprobs]


async def test_references_come_with_text_if_asked_for(
    serve: Serve, retriever: ScriptedRetriever
) -> None:
    """Proof of use: id, score, mass and text of every attached reference."""
    client = await serve()
    memory = pb.MemoryOptions(report=True, with_references=True)
    events = await client.generate(prompt="Who ?", bank=BANK, memory=memory)
    (finish,) = [event.finish for event in events if event.HasField("finish")]
    for chunk in finish.chunks:
        for attached in chunk.references:
            assert attached.reference.text == retriever.texts[attached.id]
            assert attached.attention_mass > 0


async def test_score_tokenize_detokenize_and_info(
    serve: Serve, retriever: ScriptedRetriever, checkpoint: Checkpoint
) -> None:
    """The unary methods answer as the proto says."""
    client = await serve()
    scores = await client.stub.Score(
        pb.ScoreRequest(prompt="Who ?", continuations=[" She.", " He was."], bank=BANK)
    )
    assert [score.num_tokens for score in scores.scores] == [
        len(checkpoint.tokenizer.encode(text).ids) for text in (" She.", " He was.")
    ]
    for score in scores.scores:
        assert score.logprob == pytest.approx(sum(score.token_logprobs), rel=1e-5)
        assert score.logprob < 0
    assert (scores.degraded, scores.degraded_reason) == (False, "")
    tokens = await client.stub.Tokenize(pb.TokenizeRequest(text="Zoë 漢 😀 " * 800))
    text = await client.stub.Detokenize(pb.DetokenizeRequest(token_ids=tokens.token_ids))
    assert text.text == "Zoë 漢 😀 " * 800
    info = await client.stub.GetInfo(pb.DecoderServiceGetInfoRequest())
    assert info.checkpoint == checkpoint.info()
    assert (info.num_slots, info.num_running, info.num_waiting) == (4, 0, 0)
    assert (info.context_length, info.dtype) == (512, "float32")
    assert info.retriever == retriever.address
    assert info.version


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"sampling": pb.SamplingParameters(top_p=2.0)}, InvalidArgumentError, "sampling.top_p"),
        ({"bank": "nonsense"}, InvalidArgumentError, "bank"),
        ({"bank": "banks/unknown", "prompt": "Who ?"}, NotFoundError, "bank"),
    ],
)
async def test_errors_keep_their_type_and_field(
    serve: Serve, fields: dict[str, Any], error: type[Exception], field: str
) -> None:
    """What is wrong arrives as the typed error, from here or from the retriever behind."""
    client = await serve()
    with pytest.raises(error) as raised:
        await client.generate(**fields)
    assert raised.value.field == field  # type: ignore[attr-defined]


async def test_a_bank_of_another_checkpoint_is_a_failed_precondition(
    serve: Serve, retriever: ScriptedRetriever
) -> None:
    """The code is FAILED_PRECONDITION and both digests are told."""
    client = await serve()
    retriever.digest = "0" * 64
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async for _ in client.stub.Generate(pb.GenerateRequest(prompt="Who ?", bank=BANK)):
            pass
    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    error = from_rpc_error(raised.value)
    assert isinstance(error, CheckpointMismatchError)
    assert error.expected == "0" * 64


async def test_strict_is_unavailable_and_the_default_degrades(
    serve: Serve, retriever: ScriptedRetriever
) -> None:
    """A retriever that has gone away is told of, or fails the call, as the caller wishes."""
    client = await serve(retrieval_timeout_s=0.3)
    retriever.gate.clear()
    events = await client.generate(prompt="Who ?", bank=BANK)
    assert events[-1].finish.degraded
    assert events[-1].finish.degraded_reason
    scores = await client.stub.Score(
        pb.ScoreRequest(prompt="Who ?", continuations=[" he"], bank=BANK)
    )
    assert (scores.degraded, scores.degraded_reason) == (True, events[-1].finish.degraded_reason)
    with pytest.raises(UnavailableError):
        await client.generate(prompt="Who ?", bank=BANK, memory=pb.MemoryOptions(strict=True))


LONG = pb.SamplingParameters(max_tokens=450, ignore_eos=True)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldModel]:
    """The decoders' model, to be held or slowed."""
    held = HeldModel(monkeypatch)
    yield held
    held.gate.set()


async def test_a_full_queue_says_when_to_come_back(serve: Serve, model: HeldModel) -> None:
    """RESOURCE_EXHAUSTED with the delay, and no slot lost."""
    client = await serve(num_slots=1, queue_size=0)
    model.pause_s = 0.02
    call = client.stub.Generate(pb.GenerateRequest(prompt="Who ?", sampling=LONG))
    await call.read()
    with pytest.raises(QueueFullError) as raised:
        await client.generate(prompt="Who ?")
    assert raised.value.retry_after_s == 1.0
    # Prompts are not read for nothing: nobody looks whether this one is too long.
    with pytest.raises(QueueFullError):
        await client.generate(prompt="Who ? " * 10_000)
    call.cancel()
    await client.until_idle()


async def test_connections_take_turns(serve: Serve, model: HeldModel) -> None:
    """A caller with much in the queue does not push back another one."""
    client = await serve(num_slots=1)
    # A channel with other options has a connection of its own.
    other = connect(client.service.server.address, aio=True, max_message_bytes=1 << 20)
    model.pause_s = 0.005
    running = client.stub.Generate(pb.GenerateRequest(prompt="Who ?", sampling=LONG))
    await running.read()
    ended: list[str] = []

    async def ask(stub: Any, name: str) -> None:
        sampling = pb.SamplingParameters(max_tokens=20, ignore_eos=True)
        async for _ in stub.Generate(pb.GenerateRequest(prompt="Who ?", sampling=sampling)):
            pass
        ended.append(name)

    async with other, asyncio.timeout(60.0), asyncio.TaskGroup() as group:
        for number in range(4):
            stub = client.stub if number < 3 else decoder_pb2_grpc.DecoderServiceStub(other)
            group.create_task(ask(stub, "many" if number < 3 else "one"))
            while client.decoder.engine.num_waiting <= number:
                await asyncio.sleep(0.001)
        running.cancel()
    assert (len(ended), ended[-1]) == (4, "many")


async def test_cancelled_calls_and_passed_deadlines_free_their_slots(
    serve: Serve, model: HeldModel
) -> None:
    """However a call ends, its slot is free right after."""
    client = await serve(num_slots=2)
    # 450 tokens take nine seconds at least.
    model.pause_s = 0.02
    message = pb.GenerateRequest(prompt="Who ?", sampling=LONG)
    for _ in range(5):
        call = client.stub.Generate(message)
        await call.read()
        call.cancel()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async for _ in client.stub.Generate(message, timeout=0.3):
            pass
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await client.until_idle()
    assert len(tokens_of(await client.generate(prompt="Who ?"))) > 0


async def test_health_answers_while_decoding_and_before_loading(
    serve: Serve, model: HeldModel
) -> None:
    """Loading refuses calls but is alive; one in the midst of a step answers again and again."""
    client = await serve(load=False)
    health: Any = health_pb2_grpc.HealthStub(client.channel)
    alive = await health.Check(health_pb2.HealthCheckRequest(service="liveness"))
    ready = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
    assert (alive.status, ready.status) == (SERVING, health_pb2.HealthCheckResponse.NOT_SERVING)
    with pytest.raises(LoadingError):
        await client.generate(prompt="Who ?")
    await client.service.load()
    await client.service.server.health.set_ready()
    short = pb.SamplingParameters(max_tokens=30, ignore_eos=True)
    calls = [asyncio.create_task(client.generate(prompt="Who ?", sampling=short)) for _ in range(4)]
    await model.until_held()
    for _ in range(20):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
        assert answer.status == SERVING
    assert not any(call.done() for call in calls)
    model.gate.set()
    assert [len(tokens_of(await call)) for call in calls] == [30] * 4


async def test_the_request_id_follows_every_retrieval(
    serve: Serve, retriever: ScriptedRetriever
) -> None:
    """The caller's id goes along with the prompt's retrieval and with every later one."""
    client = await serve()
    sampling = pb.SamplingParameters(max_tokens=2 * CHUNK_LENGTH, frequency_penalty=0.5)
    message = pb.GenerateRequest(prompt="Who ?", bank=BANK, sampling=sampling)
    async for _ in client.stub.Generate(message, metadata=((REQUEST_ID_KEY, "mine-1"),)):
        pass
    assert retriever.request_ids == ["mine-1"] * 2


async def test_metrics_have_the_names_that_dashboards_know(serve: Serve) -> None:
    """After one answer with memories, everything that should has been counted."""
    client = await serve()
    sampling = pb.SamplingParameters(max_tokens=CHUNK_LENGTH + 2, ignore_eos=True)
    await client.generate(prompt="Who ?", bank=BANK, sampling=sampling)

    def value(name: str, **labels: str) -> float:
        found = client.registry.get_sample_value(f"memory3_{name}", labels)
        assert found is not None, name
        return found

    assert value("generation_tokens_total") == CHUNK_LENGTH + 2
    assert value("prompt_tokens_total") > 0
    assert value("request_success_total", finished_reason="length") == 1
    assert value("time_to_first_token_seconds_count") == 1
    assert value("inter_token_latency_seconds_count") == CHUNK_LENGTH + 1
    assert value("e2e_request_latency_seconds_count") == 1
    assert value("retrieval_seconds_count", outcome="ok") >= 1
    assert value("memories_attached_total") == 9
    assert value("memory_cache_misses_total") >= 3
    assert value("num_requests_running") == 0
    assert value("num_requests_waiting") == 0
    assert value("decoder_checkpoint", digest=client.decoder.checkpoint.digest) == 1
