"""The encoder with many callers, slow callers, deadlines, and at the ends of its life."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from memory3_encoder.engine.model_work import ModelWork
from memory3_encoder.engine.work import EncodeItem, Written
from memory3_encoder.service import SERVICE

from memory3.checkpoint import Checkpoint
from memory3.errors import DeadlineExceededError, LoadingError, QueueFullError
from memory3.rpc.channel import connect
from memory3.rpc.status import typed_errors
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import encoder_pb2 as pb
from memory3.v1 import encoder_pb2_grpc
from tests.integration.encoders import (
    TEXTS,
    WAIT_S,
    Running,
    assert_same_memory,
    encode,
    references,
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny random checkpoint."""
    return tiny_checkpoint(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def encoder(checkpoint: Checkpoint) -> Iterator[Running]:
    """An encoder for tests that leave it as it was."""
    running = Running(checkpoint).load()
    yield running
    running.stop()


def test_many_clients_at_once(encoder: Running) -> None:
    """Twelve clients on connections of their own each get their own memories and vectors."""
    expected = encode(encoder.stub, TEXTS, with_vectors=True)

    def work(first: int) -> None:
        with connect(encoder.address, retries=False) as channel:
            stub = encoder_pb2_grpc.EncoderServiceStub(channel)
            for index, response in encode(stub, TEXTS[first::12], with_vectors=True).items():
                right = expected[first + 12 * index]
                assert response.vector == right.vector
                assert_same_memory(encoder, right.memory.envelope, response.memory.envelope)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(12)))


class HeldWork:
    """Holds the model of every encoder of this process at its next batch.

    Attributes:
        begun: Set once a batch stands before the gate.
        gate: Batches wait while it is closed.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Event()
        self.gate = threading.Event()
        real = ModelWork.__call__

        def held(work: ModelWork, items: Sequence[EncodeItem]) -> list[Written]:
            self.begun.set()
            assert self.gate.wait(WAIT_S)
            return real(work, items)

        monkeypatch.setattr(ModelWork, "__call__", held)


def test_health_answers_while_encoding(encoder: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Busy is not dead: probes are answered while the model is in the midst of a batch."""
    held = HeldWork(monkeypatch)
    with connect(encoder.address) as channel, ThreadPoolExecutor(1) as pool:
        health = health_pb2_grpc.HealthStub(channel)
        encoded = pool.submit(encode, encoder.stub, TEXTS[:4] * 20)
        assert held.begun.wait(WAIT_S)
        for name in (SERVICE, "liveness", "readiness") * 5:
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=WAIT_S)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert not encoded.done()
        held.gate.set()
        assert len(encoded.result()) == 80


def test_a_full_queue_is_told_and_cancelling_frees_it(checkpoint: Checkpoint) -> None:
    """A caller that does not read fills the queue; once it has gone, others are served."""
    running = Running(checkpoint, queue_size=1024)
    try:
        running.load()
        everything = pb.EncodeRequest(references=references(["some text to encode"] * 1024))
        unread = running.stub.Encode(everything, timeout=WAIT_S)
        next(unread)
        with pytest.raises(QueueFullError) as caught, typed_errors():
            list(running.stub.Encode(everything, timeout=WAIT_S))
        assert caught.value.retry_after_s is not None
        assert caught.value.retry_after_s > 0
        assert running.metric("memory3_encoder_waiting", work="encode") > 0
        unread.cancel()
        running.wait_for_empty_queue()
        assert len(list(running.stub.Encode(everything, timeout=WAIT_S))) == 1024
    finally:
        running.stop()


def test_a_deadline_ends_the_work(encoder: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its deadline a call fails as such, and what it had queued is dropped."""
    before = encoder.metric("memory3_encoder_references_total", outcome="encoded")
    request = pb.EncodeRequest(references=references([TEXTS[-1]] * 1024))
    held = HeldWork(monkeypatch)
    with pytest.raises(DeadlineExceededError), typed_errors():
        list(encoder.stub.Encode(request, timeout=0.3))
    held.gate.set()
    encoder.wait_for_empty_queue()
    after = encoder.metric("memory3_encoder_references_total", outcome="encoded")
    assert after - before < 1024
    assert len(encode(encoder.stub, TEXTS)) == len(TEXTS)


def test_is_not_ready_before_it_is_warm(checkpoint: Checkpoint) -> None:
    """While loading, health says so and calls are refused with a delay to try again after."""
    running = Running(checkpoint)
    try:
        health = health_pb2_grpc.HealthStub(running.channel)
        probe = health_pb2.HealthCheckRequest(service="readiness")
        loading = health_pb2.HealthCheckResponse.NOT_SERVING
        assert health.Check(probe, timeout=WAIT_S).status == loading
        with pytest.raises(LoadingError), typed_errors():
            running.stub.GetInfo(pb.EncoderServiceGetInfoRequest(), timeout=WAIT_S)
        running.load()
        ready = health_pb2.HealthCheckResponse.SERVING
        assert health.Check(probe, timeout=WAIT_S).status == ready
        assert running.metric("memory3_encoder_batch_items_count", work="encode") >= 1
    finally:
        running.stop()


def test_a_process_finishes_its_calls_when_told_to_stop(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """SIGTERM in the middle of a stream: every result still arrives, and the exit code is 0."""
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", "memory3_encoder", "--checkpoint", str(checkpoint.path)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--port-file", str(port_file), "--log-level", "error"]
    )
    try:
        until = time.monotonic() + WAIT_S
        while not port_file.exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        with connect(f"127.0.0.1:{port_file.read_text().strip()}") as channel:
            stub = encoder_pb2_grpc.EncoderServiceStub(channel)
            _wait_until_ready(stub)
            responses = stub.Encode(
                pb.EncodeRequest(references=references(TEXTS[:8] * 64)), timeout=WAIT_S
            )
            first = next(responses)
            process.send_signal(signal.SIGTERM)
            indexes = {first.index, *(response.index for response in responses)}
        assert indexes == set(range(512))
        assert process.wait(WAIT_S) == 0
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(stub: encoder_pb2_grpc.EncoderServiceStub) -> None:
    until = time.monotonic() + WAIT_S
    while True:
        try:
            stub.GetInfo(pb.EncoderServiceGetInfoRequest(), timeout=WAIT_S)
            return
        except grpc.RpcError:
            assert time.monotonic() < until
            time.sleep(0.1)
