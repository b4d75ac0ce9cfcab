"""Services as processes of their own, and the processors that their threads may run on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memory3.checkpoint import Checkpoint
from memory3.rpc.channel import connect
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.testing.processes import family

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds threads")
SERVING = health_pb2.HealthCheckResponse.SERVING
MINE = os.sched_getaffinity(0) if sys.platform == "linux" else set()
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny checkpoint."""
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


def _command(service: str, checkpoint: Checkpoint, *arguments: str) -> list[str]:
    path = str(checkpoint.path)
    return [sys.executable, "-m", f"memory3_{service}", "--checkpoint", path, *arguments]


@contextmanager
def _running(service: str, checkpoint: Checkpoint, folder: Path, cpus: str) -> Iterator[int]:
    """A service that is ready; the id of its process."""
    file = folder / "port"
    command = _command(service, checkpoint, "--port", "0", "--port-file", str(file), "--cpus", cpus)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + PATIENCE_S
            while not file.exists():
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
            with connect(f"127.0.0.1:{file.read_text().strip()}") as channel:
                health: Any = health_pb2_grpc.HealthStub(channel)
                while health.Check(health_pb2.HealthCheckRequest()).status != SERVING:
                    assert time.monotonic() < until
                    time.sleep(0.05)
            yield process.pid
        finally:
            process.kill()


def _allowed(process: int) -> dict[int, str]:
    """The processors of each thread, those of the model's process too, as the system lists them."""
    found = {}
    for each in family(process):
        for task in Path(f"/proc/{each}/task").iterdir():
            (listed,) = re.findall(r"Cpus_allowed_list:\s*(\S+)", (task / "status").read_text())
            found[int(task.name)] = listed
    return found


@pytest.mark.skipif(len(MINE) < 2, reason="one processor leaves nothing to bind to")
@pytest.mark.parametrize(("service", "num_bound"), [("decoder", 1), ("encoder", 2)])
def test_the_threads_of_the_model_are_bound_and_no_others(
    checkpoint: Checkpoint, tmp_path: Path, service: str, num_bound: int
) -> None:
    """The decoder's model's process, the encoder's model and embedder are on the last one."""
    last = str(max(MINE))
    with _running(service, checkpoint, tmp_path, last) as process:
        allowed = _allowed(process)
    bound = [thread for thread, cpus in allowed.items() if cpus == last]
    assert len(bound) == num_bound
    assert process not in bound
    assert len(set(allowed.values())) == 2


@pytest.mark.parametrize("service", ["decoder", "encoder"])
def test_processors_that_are_not_there_end_the_start(checkpoint: Checkpoint, service: str) -> None:
    """One line with the setting and what there is, and no traceback."""
    command = _command(service, checkpoint, "--port", "0", "--cpus", "99999")
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == 1
    assert "processors 99999 are not there, or not this process's to use" in ended.stderr
    assert "Traceback" not in ended.stderr
