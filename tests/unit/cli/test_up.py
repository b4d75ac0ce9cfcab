"""``memory3 up`` as a process of its own, with stand-ins for the services."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.launcher.conftest import ROOT


def start(
    tmp_path: Path, checkpoint: Path, environment: dict[str, str], *arguments: str
) -> subprocess.Popen[str]:
    """The command, with its output to be read."""
    command = [
        sys.executable, "-m", "memory3.cli", "up", "--checkpoint", str(checkpoint),
        "--data", str(tmp_path / "data"), "--state", str(tmp_path / "state"), *arguments,
    ]  # fmt: skip
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        cwd=ROOT,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_services_run_until_a_signal(
    tmp_path: Path, checkpoint: Path, stand_ins: dict[str, str], number: signal.Signals
) -> None:
    """Addresses are printed once all are ready; a signal stops all of them cleanly."""
    with start(tmp_path, checkpoint, stand_ins, "--random-ports") as up:
        assert up.stdout is not None
        lines = [up.stdout.readline().rstrip()]
        while "Ctrl-C" not in lines[-1]:
            lines.append(up.stdout.readline().rstrip())
        up.send_signal(number)
        _, err = up.communicate(timeout=120)
    assert up.returncode == 0
    assert lines[0] == "memory3 is ready"
    assert sum(line.startswith("  export MEMORY3_") for line in lines) == 3
    assert "stopping the services" in err
    for name in ("encoder", "retriever", "decoder"):
        assert f"{name} left" in (tmp_path / "state" / f"{name}.log").read_text()


def test_addresses_as_json(tmp_path: Path, checkpoint: Path, stand_ins: dict[str, str]) -> None:
    """A program reads addresses and folders."""
    with start(tmp_path, checkpoint, stand_ins, "--random-ports", "-o", "json") as up:
        assert up.stdout is not None
        text = ""
        while not text.endswith("\n}\n"):
            text += up.stdout.readline()
        up.terminate()
        up.communicate(timeout=120)
    written = json.loads(text)
    assert set(written["addresses"]) == {"decoder", "retriever", "encoder"}
    assert written["logs"] == str(tmp_path / "state")


def test_dead_service_stops_all_and_is_told(
    tmp_path: Path, checkpoint: Path, stand_ins: dict[str, str]
) -> None:
    """The command says which died, shows its log, stops the others and exits with 1."""
    environment = {**stand_ins, "STAND_IN_RETRIEVER": "die-later"}
    with start(tmp_path, checkpoint, environment, "--random-ports") as up:
        _, err = up.communicate(timeout=120)
    assert up.returncode == 1
    assert "the retriever was killed by SIGKILL" in err
    assert "retriever with" in err
    assert "decoder left" in (tmp_path / "state" / "decoder.log").read_text()


def test_missing_checkpoint_is_a_usage_error(tmp_path: Path, stand_ins: dict[str, str]) -> None:
    """Nothing is started without a checkpoint."""
    with start(tmp_path, tmp_path / "nowhere", stand_ins) as up:
        _, err = up.communicate(timeout=120)
    assert up.returncode == 2
    assert "is not a checkpoint directory" in err
    assert "MEMORY3_CHECKPOINT" in err
