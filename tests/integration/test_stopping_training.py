"""SIGTERM ends a run, of one process or of two, with the state of its last step on disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from memory3_trainer.stages.callbacks import METRICS, read_metrics

from tests.unit.trainer.conftest import tokenizer  # noqa: F401 -- a fixture
from tests.unit.trainer.stages.conftest import TINY, data  # noqa: F401 -- a fixture
from tests.unit.trainer.stages.test_run import as_toml
from tests.waiting import eventually

TWO = ["--devices", "2", "--strategy", "ddp"]


def started(recipe: Path, data: Path, out: Path, flags: list[str]) -> subprocess.Popen[str]:  # noqa: F811
    """The trainer's command, in a process group of its own."""
    command = [
        sys.executable, "-m", "memory3_trainer", "train", str(recipe), "--data", str(data),
        "--out", str(out), "--accelerator", "cpu", *flags,
    ]  # fmt: skip
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def members(group: int) -> list[int]:
    """The processes of a group that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, own = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(own) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("flags", [[], TWO], ids=["one", "two"])
def test_all_processes_end_after_the_same_step_and_go_on_from_it(
    data: Path,  # noqa: F811 -- the fixture
    tmp_path: Path,
    flags: list[str],
) -> None:
    """No state was due before the signal: what is on disk was kept because of it."""
    recipe, out = tmp_path / "stage.toml", tmp_path / "run"
    recipe.write_text(as_toml({**TINY, "steps": 100_000, "save_every": 100_000}))
    process = started(recipe, data, out, flags)
    try:
        metrics = out / METRICS
        assert eventually(
            lambda: metrics.is_file() and len(metrics.read_text().splitlines()) > 3, 120
        )
        assert len(members(process.pid)) == (2 if flags else 1)
        process.send_signal(signal.SIGTERM)
        told = process.communicate(timeout=60)[1]
        assert process.returncode == 128 + signal.SIGTERM, told
        assert "the same command goes on" in told
        assert eventually(lambda: not members(process.pid), 30)
    finally:
        for pid in members(process.pid):
            os.kill(pid, signal.SIGKILL)
    done = json.loads((out / "state" / "state.json").read_text())["step"]
    assert f"after step {done} of" in told
    assert [row["step"] for row in read_metrics(out)] == list(range(done))


def test_before_the_first_step_both_processes_end_at_once(
    data: Path,  # noqa: F811 -- the fixture
    tmp_path: Path,
) -> None:
    """While sets are read there is nothing to keep."""
    recipe, out = tmp_path / "stage.toml", tmp_path / "run"
    recipe.write_text(as_toml({**TINY, "steps": 100_000}))
    process = started(recipe, data, out, TWO)
    try:
        assert eventually(lambda: len(members(process.pid)) == 2, 120)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)
        assert eventually(lambda: not members(process.pid), 60)
    finally:
        for pid in members(process.pid):
            os.kill(pid, signal.SIGKILL)
