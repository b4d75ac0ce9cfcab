"""The clients in other languages, each built with its own tools and run against the real stack.

Run by `make clients-test`, which wants all of their tools; without MEMORY3_ALL_CLIENTS a client
whose tools are missing is left out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from memory3.client import Client
from memory3.launcher import LocalServices
from memory3.testing.checkpoints import tiny_checkpoint
from tests.e2e.chain import launch_options

CLIENTS = Path(__file__).parent
# What each build calls, beside a shell.
TOOLS = {
    "go": ["go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc"],
    "node": ["node", "npm"],
    "cpp": ["cmake", "c++", "protoc", "grpc_cpp_plugin", "pkg-config"],
    "java": ["javac", "protoc", "grpc_java_plugin"],
}
QUESTION = "Who kept the lighthouse?"


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    """A stack with a tiny checkpoint, whose answers are long enough to be cancelled."""
    folder = tmp_path_factory.mktemp("services")
    checkpoint = tiny_checkpoint(folder / "tiny", chunk_length=16, references_per_chunk=3)
    with LocalServices(launch_options(checkpoint.path, folder)) as running:
        yield running


@pytest.mark.parametrize("language", sorted(TOOLS))
@pytest.mark.timeout(600)
def test_a_client_does_what_the_python_client_does(
    language: str, services: LocalServices, tmp_path: Path
) -> None:
    """Adds, searches, streams an answer, reads a typed error and cancels, as the SDK does."""
    missing = [tool for tool in TOOLS[language] if shutil.which(tool) is None]
    if missing and not os.environ.get("MEMORY3_ALL_CLIENTS"):
        pytest.skip(f"not installed: {', '.join(missing)} (see clients/README.md)")
    subprocess.run([CLIENTS / language / "build", tmp_path], check=True)

    did = _run(tmp_path / "scenario", services)

    with services.client() as client:
        bank = f"clients-{language}"
        references = list(client.list_references(bank))
        expected = client.generate(
            QUESTION, bank=bank, max_tokens=24, ignore_eos=True, retrieval_timeout=10.0
        )
        (choice,) = expected.choices
        assert did["num_references"] == len(references) > 0
        assert did["found"] in {reference.text for reference in references}
        assert "Vardø" in did["found"]
        assert (did["text"], did["token_ids"]) == (choice.text, list(choice.token_ids))
        assert did["attached"] == [
            reference.id for chunk in choice.finish.chunks for reference in chunk.references
        ]
        assert (did["finish_reason"], did["completion_tokens"]) == ("FINISH_REASON_LENGTH", 24)
        error = did["error"]
        assert (error["code"], error["reason"], error["field"]) == (
            grpc.StatusCode.NOT_FOUND.value[0],
            "NOT_FOUND",
            "bank",
        )
        assert error["remedy"]
        assert did["cancelled_with"].upper() in {"CANCELLED", "CANCELED"}
        _wait_until_idle(client)


def _run(scenario: Path, services: LocalServices) -> dict[str, Any]:
    addresses = services.addresses
    done = subprocess.run(
        [scenario, "--decoder", addresses["decoder"], "--retriever", addresses["retriever"]],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _wait_until_idle(client: Client) -> None:
    """The cancelled answer has left its slot."""
    end = time.monotonic() + 10
    while client.decoder_info().num_running:
        assert time.monotonic() < end
        time.sleep(0.02)
