"""A server as a process: where it listens, how it loads, and how it leaves on a signal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memory3.rpc.channel import connect, wait_ready
from tests.unit.rpc.act import ActStub
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]
KINDS = ("thread", "aio")

Launch = Callable[..., "Process"]


class Process:
    """A server's process and a channel to it."""

    def __init__(self, kind: str, port_file: Path, **environment: str) -> None:
        self.arrived, self.released = (
            port_file.with_suffix(suffix) for suffix in (".arrived", ".released")
        )
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.rpc.act_process", kind, str(port_file)],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert eventually(port_file.exists), self.popen.communicate(timeout=5)
        self.target = target = f"127.0.0.1:{port_file.read_text().strip()}"
        self.channel = connect(target, retries=False)
        wait_ready(self.channel, target, 60)
        self.stub = ActStub(self.channel)

    def is_serving(self) -> bool:
        """What health says."""
        stub = health_pb2_grpc.HealthStub(self.channel)
        status = stub.Check(health_pb2.HealthCheckRequest(), timeout=30).status
        return status == health_pb2.HealthCheckResponse.SERVING


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts processes and ends whatever is left of them."""
    started: list[Process] = []

    def start(kind: str, **environment: str) -> Process:
        process = Process(kind, tmp_path / f"port{len(started)}", **environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.channel.close()
        process.popen.kill()
        process.popen.communicate()


def accepts(target: str) -> bool:
    """Whether somebody takes a new connection."""
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=30).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_calls_in_flight_end(
    launch: Launch, kind: str, number: signal.Signals
) -> None:
    """A call that was running when the signal came is answered, and the process exits with 0."""
    process = launch(kind)
    assert eventually(process.is_serving)
    running = process.stub.act.future("wait", timeout=60)
    assert eventually(process.arrived.exists)
    process.popen.send_signal(number)
    assert eventually(lambda: not accepts(process.target))
    assert not running.done()
    process.released.touch()
    assert running.result() == "done"
    out, err = process.popen.communicate(timeout=60)
    assert (process.popen.returncode, out) == (0, "")
    assert '"event": "stopped"' in err


@pytest.mark.parametrize("kind", KINDS)
def test_draining_is_seen_while_calls_are_still_answered(launch: Launch, kind: str) -> None:
    """After the signal health is NOT_SERVING, and new calls are answered until the draining ends.

    A second signal ends it here: who asks twice does not want to wait.
    """
    process = launch(kind, DRAIN_SECONDS="600")
    assert eventually(process.is_serving)
    process.popen.send_signal(signal.SIGTERM)
    assert eventually(lambda: not process.is_serving())
    assert process.stub.act("say:late", timeout=60) == "late"
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(timeout=60) == 0
    with pytest.raises(grpc.RpcError):
        process.stub.act("say:too late", timeout=1)


@pytest.mark.parametrize("kind", KINDS)
def test_draining_ends_by_itself(launch: Launch, kind: str) -> None:
    """After its time the process has left, with nobody asking again."""
    process = launch(kind, DRAIN_SECONDS="0.2")
    assert eventually(process.is_serving)
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(timeout=60) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_ends_the_loading(launch: Launch, kind: str) -> None:
    """A process that is still loading answers health, serves nothing, and leaves when told."""
    process = launch(kind, LOAD_SECONDS="600")
    assert not process.is_serving()
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(timeout=60) == 0


STORM = """
import os, signal, threading, time
from memory3.rpc.serving import _Signals
with _Signals((signal.SIGUSR1,)) as signals:
    signals.loading = False
    stop = threading.Event()
    def storm():
        while not stop.is_set():
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.0001)
    sender = threading.Thread(target=storm)
    sender.start()
    taken = 0
    while taken < 300:
        taken += signals.wait(0.0)
    for _ in range(300):
        assert signals.wait(5)
    stop.set()
    sender.join()
print("taken")
"""


def test_signals_never_lock_the_thread_that_waits_for_them() -> None:
    """Signals that come at any step of the waiting are all taken, and none stops it for good."""
    ended = subprocess.run(
        [sys.executable, "-c", STORM], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout, ended.stderr) == ("taken\n", "")


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_loaded_is_no_longer_looked_through(launch: Launch, kind: str) -> None:
    """A process that is ready has put aside what the garbage collector would look at each time."""
    process = launch(kind)
    assert eventually(process.is_serving)
    assert int(process.stub.act("kept", timeout=60)) > 10_000
