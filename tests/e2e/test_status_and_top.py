"""``memory3 status`` and ``memory3 top`` beside real services at work."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from memory3.checkpoint import Checkpoint
from memory3.errors import NotFoundError
from memory3.launcher import LocalServices
from memory3.launcher.ports import free_ports
from tests.e2e.chain import PATIENCE_S, launch_options, options, people, prompts_about

pytestmark = pytest.mark.e2e

SEED = 91
NAMES = ("decoder", "retriever", "encoder")


@pytest.fixture(scope="module")
def watched(
    checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalServices]:
    """Services with metrics, and a bank."""
    ports = dict(zip(NAMES, free_ports(3), strict=True))
    variables = {f"MEMORY3_{name.upper()}_METRICS_PORT": str(port) for name, port in ports.items()}
    wishes = launch_options(checkpoint.path, tmp_path_factory.mktemp("watched"), **variables)
    with LocalServices(wishes) as running:
        with running.client() as client:
            client.create_bank("people", write_policy="lazy")
            client.add("people", people(4, SEED))
        yield running


@pytest.fixture(scope="module")
def environment(watched: LocalServices) -> dict[str, str]:
    """What the command is told of where they are."""
    told = {name: value for name, value in os.environ.items() if not name.startswith("MEMORY3_")}
    for name in NAMES:
        told[f"MEMORY3_{name.upper()}"] = watched.addresses[name]
        told[f"MEMORY3_METRICS_{name.upper()}"] = f"127.0.0.1:{_metrics_port(watched, name)}"
    return told


@pytest.fixture
def busy(watched: LocalServices) -> Iterator[None]:
    """Somebody generates all the time, about banks and without."""
    leave = threading.Event()

    def work() -> None:
        with watched.client() as client:
            while not leave.is_set():
                client.generate(prompts_about(SEED)[0], "people", **options(max_tokens=30))

    thread = threading.Thread(target=work)
    thread.start()
    yield
    leave.set()
    thread.join()


def _metrics_port(services: LocalServices, name: str) -> str:
    return services.options.environment[f"MEMORY3_{name.upper()}_METRICS_PORT"]


def _memory3(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "memory3.cli", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def test_top_once_gives_numbers_to_a_program(environment: dict[str, str], busy: None) -> None:
    """One look over an interval has the rates, quantiles and shares of work that goes on."""
    done = _memory3(environment, "top", "--once", "--interval", "3", "-o", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = {each["service"]: each for each in json.loads(done.stdout)}
    assert [found[name]["health"] for name in NAMES] == ["ready"] * 3
    decoder, retriever = found["decoder"]["numbers"], found["retriever"]["numbers"]
    assert decoder["generation_tokens_per_s"] > 0
    assert 0 < decoder["time_to_first_token_p50_s"] <= decoder["time_to_first_token_p99_s"]
    assert decoder["event_loop_lag_p99_s"] is not None
    # The same prompt again and again: its whole chunks are copied, and kept in some bytes.
    assert 0 < decoder["prefix_hit_share"] < 1
    assert decoder["prefix_cache_bytes"] > 0
    assert decoder["session_bytes"] == 0
    assert retriever["retrievals_per_s"] > 0
    assert retriever["num_banks"] == 1
    assert found["encoder"]["numbers"]["texts_per_s"] > 0
    assert found["decoder"]["seconds"] >= 3


def test_top_lives_in_a_terminal(environment: dict[str, str], busy: None) -> None:
    """On a terminal the numbers come again and again, until Ctrl-C, which is no failure."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "memory3.cli", "top", "--interval", "0.5"],
        env={**environment, "TERM": "xterm", "COLUMNS": "140", "LINES": "40"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        shown = _read_until(ours, rb"tokens/s generated\W+[1-9]")
        assert b"retrievals/s" in shown
        assert re.search(rb"held of prompts\W+[\d.]+ [KM]iB", shown)
        assert b"waiting to encode" in shown
        process.send_signal(signal.SIGINT)
        _read_until(ours, None)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        os.close(ours)


def test_status_tells_what_it_sees_and_leaves_with_0(environment: dict[str, str]) -> None:
    """Services that are ready and belong together need nothing; queues and shares are told."""
    done = _memory3(environment, "status", "-o", "json")
    assert done.returncode == 0, done.stderr
    states = {state["service"]: state for state in json.loads(done.stdout)}
    assert all(state["live"] and state["ready"] and not state["next"] for state in states.values())
    assert len({state["info"]["checkpoint"]["digest"] for state in states.values()}) == 1
    assert states["decoder"]["metrics"]["num_waiting"] == 0
    assert states["encoder"]["metrics"]["num_waiting_encode"] == 0
    assert states["retriever"]["metrics"]["canary_mismatches"] == 0


def test_status_says_what_to_do_about_a_service_that_is_away(environment: dict[str, str]) -> None:
    """It leaves with 1, and the remedy names the option and the variable."""
    (nobody,) = free_ports(1)
    done = _memory3(environment, "status", "--encoder", f"127.0.0.1:{nobody}")
    assert done.returncode == 1
    assert "no answer" in done.stdout
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("next: ")]
    assert told.startswith("next: encoder: start it")
    assert "MEMORY3_ENCODER" in told


def test_callers_cannot_make_new_series(watched: LocalServices) -> None:
    """Banks, ids and texts that callers make up leave the number of series as it was."""
    with watched.client() as client:
        # Every method and code that is used below has its series after this.
        _call_with_made_up_names(client, "first")
        before = [_series(watched, name) for name in NAMES]
        for number in range(20):
            _call_with_made_up_names(client, f"other-{number}")
        assert [_series(watched, name) for name in NAMES] == before


def _call_with_made_up_names(client: Any, name: str) -> None:
    with pytest.raises(NotFoundError):
        client.generate(f"about {name}", name, **options(max_tokens=2))
    with pytest.raises(NotFoundError):
        client.search(name, f"about {name}")
    with pytest.raises(NotFoundError):
        client.get_bank(name)
    client.embed([f"a text of {name}"])


def _series(services: LocalServices, name: str) -> set[str]:
    url = f"http://127.0.0.1:{_metrics_port(services, name)}/metrics"
    with urllib.request.urlopen(url, timeout=30) as page:
        lines = page.read().decode().splitlines()
    return {line.rpartition(" ")[0] for line in lines if line.startswith("memory3_")}


def _read_until(terminal: int, pattern: bytes | None) -> bytes:
    """What comes out of a terminal until it matches; None for until its end."""
    shown, end = b"", time.monotonic() + PATIENCE_S
    while pattern is None or re.search(pattern, shown) is None:
        assert time.monotonic() < end, shown[-2000:]
        if not select.select([terminal], [], [], 0.5)[0]:
            continue
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            piece = b""
        if not piece:
            assert pattern is None, shown[-2000:]
            break
        shown += re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", piece)
    return shown
