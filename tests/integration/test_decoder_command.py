"""The decoder's command as a process of its own: port file, readiness, draining, errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from memory3_decoder.service import SERVICE

from memory3.checkpoint import Checkpoint
from memory3.rpc.channel import connect
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import decoder_pb2 as pb
from memory3.v1 import decoder_pb2_grpc
from tests.unit.decoder.scripted_retriever import BANK, ScriptedRetriever

SERVING = health_pb2.HealthCheckResponse.SERVING
NUM_TOKENS = 450


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny checkpoint."""
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture
def retriever(checkpoint: Checkpoint) -> Iterator[ScriptedRetriever]:
    """A running retriever."""
    with ScriptedRetriever(checkpoint, ["Ada sails north.", "Bo sings low."]) as running:
        yield running


@pytest.fixture
def started(
    checkpoint: Checkpoint, retriever: ScriptedRetriever, tmp_path: Path
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process of its own, and where it listens."""
    port_file = tmp_path / "port"
    command = [
        sys.executable, "-m", "memory3_decoder", "--checkpoint", str(checkpoint.path),
        "--retriever", retriever.address, "--port", "0", "--port-file", str(port_file),
    ]  # fmt: skip
    environment = {**os.environ, "MEMORY3_DECODER_DTYPE": "float32"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        until = time.monotonic() + 60
        while not port_file.exists():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        yield process, f"127.0.0.1:{port_file.read_text().strip()}"
        process.kill()


def test_the_command_serves_and_drains(started: tuple[subprocess.Popen[str], str]) -> None:
    """From a port file to an exit code of 0: a call in flight at SIGTERM is finished."""
    process, address = started
    with connect(address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        until = time.monotonic() + 60
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        while health.Check(request, wait_for_ready=True).status != SERVING:
            assert time.monotonic() < until
            time.sleep(0.05)
        stub: Any = decoder_pb2_grpc.DecoderServiceStub(channel)
        sampling = pb.SamplingParameters(max_tokens=NUM_TOKENS, ignore_eos=True)
        call = stub.Generate(pb.GenerateRequest(prompt="Who ?", bank=BANK, sampling=sampling))
        events = [next(call)]
        process.send_signal(signal.SIGTERM)
        events += list(call)
    tokens = [token for event in events for token in event.delta.token_ids]
    assert len(tokens) == NUM_TOKENS
    assert process.wait(timeout=30) == 0


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    """A missing checkpoint is one line on stderr, an exit code of 1 and no traceback."""
    ended = subprocess.run(
        [sys.executable, "-m", "memory3_decoder", "--checkpoint", str(tmp_path / "none"),
         "--port", "0"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "there is no checkpoint directory" in ended.stderr
    assert "Traceback" not in ended.stderr
