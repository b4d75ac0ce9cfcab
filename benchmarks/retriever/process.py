"""Processes that are measured: the retriever itself, and a bare gRPC stream beside it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memory3.rpc.channel import connect


class Process:
    """A child that wrote its port into a file."""

    def __init__(self, child: subprocess.Popen[bytes], port: int, seconds: float) -> None:
        self.child = child
        self.address = f"127.0.0.1:{port}"
        self.ready_seconds = seconds

    def memory_bytes(self) -> int:
        """What it has for itself, without mapped files."""
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        return 1024 * int(status.split("RssAnon:")[1].split()[0])

    def cpu_seconds(self) -> float:
        """Processor time so far."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100


@contextmanager
def retriever(
    checkpoint: Path, data: Path, scratch: Path, encoder: str = "127.0.0.1:1", cache: str = "none"
) -> Iterator[Process]:
    """`python -m memory3_retriever` over a data folder, ready to answer."""
    command = [
        "-m", "memory3_retriever", "--checkpoint", str(checkpoint), "--data", str(data),
        "--encoder", encoder, "--cache", cache, "--log-level", "warning",
    ]  # fmt: skip
    with _running(command, scratch / "port", option="--port-file") as process:
        yield process


@contextmanager
def bare_stream(scratch: Path) -> Iterator[Process]:
    """A gRPC server that sends bytes from memory and does nothing else."""
    with _running(["-m", "benchmarks.retriever.bare"], scratch / "port") as process:
        yield process


@contextmanager
def made_up_encoder(digest: str, scratch: Path) -> Iterator[Process]:
    """An encoder whose vectors and memories are made up."""
    command = ["-m", "benchmarks.retriever.encoder", digest]
    with _running(command, scratch / "encoder-port") as process:
        yield process


@contextmanager
def adding(address: str, bank: str, rate: float) -> Iterator[dict[str, float]]:
    """Somebody who adds references while the block runs; what became of it is there after it."""
    command = [sys.executable, "-m", "benchmarks.retriever.adder", address, bank, str(rate)]
    outcome: dict[str, float] = {}
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield outcome
    finally:
        printed, _ = child.communicate()
        outcome.update(json.loads(printed))


@contextmanager
def _running(command: list[str], port_file: Path, option: str = "") -> Iterator[Process]:
    port_file.unlink(missing_ok=True)
    given = [option, str(port_file), "--port", "0"] if option else [str(port_file)]
    started = time.perf_counter()
    child = subprocess.Popen([sys.executable, *command, *given], stdout=subprocess.DEVNULL)
    try:
        port = _port(child, port_file)
        with connect(f"127.0.0.1:{port}") as channel:
            _wait_until_ready(channel)
        yield Process(child, port, time.perf_counter() - started)
    finally:
        child.terminate()
        child.wait()


def _port(child: subprocess.Popen[bytes], port_file: Path) -> int:
    while not (port_file.exists() and port_file.read_text().strip()):
        if child.poll() is not None:
            raise SystemExit(f"a measured process ended with {child.returncode}")
        time.sleep(0.01)
    return int(port_file.read_text())


def _wait_until_ready(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="readiness")
    while True:
        try:
            if stub.Check(request, wait_for_ready=True).status == 1:
                return
        except grpc.RpcError as error:
            # The bare server has no health to tell of.
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return
        time.sleep(0.02)
