"""``memory3 up`` as a process of its own, with stand-ins for the services."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from memory3.launcher.ports import free_ports
from tests.unit.launcher.conftest import ROOT
from tests.waiting import eventually


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
        env={**surroundings(), **environment},
        cwd=ROOT,
        text=True,
    )


def surroundings() -> dict[str, str]:
    """This process's variables without those that ``up`` reads."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MEMORY3_")}


def told(tmp_path: Path, name: str) -> list[str]:
    """The arguments that a service was started with."""
    first = (tmp_path / "state" / f"{name}.log").read_text().splitlines()[0]
    return first.removeprefix(f"{name} with ").split()


def until_ready(up: subprocess.Popen[str]) -> list[str]:
    """The lines that it prints once all are ready."""
    assert up.stdout is not None
    lines = [up.stdout.readline().rstrip()]
    while "Ctrl-C" not in lines[-1]:
        lines.append(up.stdout.readline().rstrip())
    return lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_services_run_until_a_signal(
    tmp_path: Path, checkpoint: Path, stand_ins: dict[str, str], number: signal.Signals
) -> None:
    """Addresses are printed once all are ready; a signal stops all of them cleanly."""
    with start(tmp_path, checkpoint, stand_ins, "--random-ports") as up:
        lines = until_ready(up)
        up.send_signal(number)
        _, err = up.communicate(timeout=120)
    assert up.returncode == 0
    assert lines[0] == "memory3 is ready"
    assert sum(line.startswith("  export MEMORY3_") for line in lines) == 6
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


def test_the_gateway_is_started_if_asked_for(
    tmp_path: Path, checkpoint: Path, stand_ins: dict[str, str]
) -> None:
    """With --gateway it is started before the others, told where they are, and stopped first."""
    with start(tmp_path, checkpoint, stand_ins, "--random-ports", "--gateway") as up:
        lines = until_ready(up)
        up.terminate()
        up.communicate(timeout=120)
    assert up.returncode == 0
    (url,) = (line for line in lines if line.startswith("  gateway"))
    assert "http://127.0.0.1:" in url
    arguments = told(tmp_path, "gateway")
    assert arguments[::2][:3] == ["--encoder", "--retriever", "--decoder"]
    assert "--checkpoint" not in arguments
    logs = [(tmp_path / "state" / f"{name}.log").read_text() for name in ("gateway", "decoder")]
    left = [float(log.rpartition("left at ")[2]) for log in logs]
    assert left[0] < left[1]


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


def test_variables_of_single_services_are_heeded(
    tmp_path: Path, checkpoint: Path, stand_ins: dict[str, str]
) -> None:
    """Ports, hosts, data and cache come from them; nothing is passed that would overrule them."""
    ports = dict(zip(("encoder", "retriever", "decoder"), free_ports(3), strict=True))
    environment = {
        **stand_ins,
        **{f"MEMORY3_{name.upper()}_PORT": str(port) for name, port in ports.items()},
        "MEMORY3_RETRIEVER_CACHE": "none",
        "MEMORY3_RETRIEVER_HOST": "localhost",
        "MEMORY3_RETRIEVER_DATA": str(tmp_path / "banks"),
        "MEMORY3_DECODER_CHECKPOINT": "elsewhere",
    }
    command = [sys.executable, "-m", "memory3.cli", "up", "--checkpoint", str(checkpoint)]
    with subprocess.Popen(
        [*command, "--state", str(tmp_path / "state")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**surroundings(), **environment},
        cwd=ROOT,
        text=True,
    ) as up:
        lines = until_ready(up)
        up.terminate()
        _, err = up.communicate(timeout=120)
    assert up.returncode == 0
    for name, port in ports.items():
        host = "localhost" if name == "retriever" else "127.0.0.1"
        assert f"  {name:<9}  {host}:{port}" in lines
        arguments = told(tmp_path, name)
        assert arguments[arguments.index("--port") + 1] == str(port)
        assert arguments[arguments.index("--host") + 1] == host
    assert f"  banks      {tmp_path / 'banks'}" in lines
    arguments = told(tmp_path, "retriever")
    assert arguments[arguments.index("--data") + 1] == str(tmp_path / "banks")
    assert arguments[arguments.index("--cache") + 1] == "none"
    assert "MEMORY3_DECODER_CHECKPOINT is not used" in err


def test_what_is_not_given_is_left_to_the_service(
    tmp_path: Path, checkpoint: Path, stand_ins: dict[str, str]
) -> None:
    """Without option or variable the retriever is not told any cache."""
    with start(tmp_path, checkpoint, stand_ins, "--random-ports") as up:
        until_ready(up)
        up.terminate()
        up.communicate(timeout=120)
    assert "--cache" not in told(tmp_path, "retriever")


def test_warnings_of_the_services_are_told(
    tmp_path: Path, checkpoint: Path, stand_ins: dict[str, str]
) -> None:
    """What a service warns of in its log is on stderr once all are ready."""
    environment = {**stand_ins, "STAND_IN_DECODER": "warn"}
    with start(tmp_path, checkpoint, environment, "--random-ports") as up:
        until_ready(up)
        up.terminate()
        _, err = up.communicate(timeout=120)
    assert "warning: decoder: not known (variable=MEMORY3_PLANET)\n" in err
    assert "of no concern" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_leaving_while_services_load_is_clean(
    tmp_path: Path, checkpoint: Path, stand_ins: dict[str, str], number: signal.Signals
) -> None:
    """A service that SIGTERM ends before it has come far enough to heed it is no fault."""
    environment = {**stand_ins, "STAND_IN_DECODER": "young"}
    log = tmp_path / "state" / "decoder.log"
    with start(tmp_path, checkpoint, environment, "--random-ports") as up:
        assert eventually(lambda: log.exists() and "decoder with" in log.read_text())
        up.send_signal(number)
        out, err = up.communicate(timeout=120)
    assert (up.returncode, out) == (0, "")
    assert "not all ended cleanly" not in err


INTERRUPTED_WHILE_IMPORTING = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from memory3.cli.start import main
sys.argv = ["memory3", "version"]
main()
"""


@pytest.mark.parametrize("module", ["typer", "memory3.cli.app", "memory3.cli.commands.version"])
def test_an_interrupt_while_importing_is_quiet(module: str) -> None:
    """Ctrl-C in the first moments ends the command as a shell expects, without a traceback."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_WHILE_IMPORTING.format(module=module)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
