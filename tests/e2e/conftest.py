"""The three services as processes, started once: some that nobody harms, some to be harmed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from memory3.checkpoint import Checkpoint
from memory3.client import Client, Document
from memory3.launcher import LocalServices
from memory3.launcher.ports import free_ports
from memory3.testing.checkpoints import tiny_checkpoint
from tests.conftest import ROOT
from tests.e2e.chain import CHUNK_LENGTH, REFERENCES_PER_CHUNK, launch_options, revive
from tests.e2e.page import HOSTILE, PEOPLE


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny checkpoint of random weights with short chunks, so that memories change often."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    return tiny_checkpoint(
        folder, chunk_length=CHUNK_LENGTH, references_per_chunk=REFERENCES_PER_CHUNK
    )


@pytest.fixture(scope="session")
def services(
    checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalServices]:
    """Services that all tests share; do not stop them."""
    folder = tmp_path_factory.mktemp("services")
    (metrics_port,) = free_ports(1)
    wishes = launch_options(
        checkpoint.path,
        folder,
        MEMORY3_ENCODER_METRICS_PORT=str(metrics_port),
        # One reference a batch: what else is in a batch decides the last rounding of a memory, and
        # these services are compared bit by bit.
        MEMORY3_ENCODER_BATCH_TOKENS="1",
        MEMORY3_ENCODER_DTYPE="float32",
    )
    with LocalServices(wishes) as running:
        yield running
    exit_codes = {name: process.exit_code for name, process in running.processes.items()}
    assert exit_codes == {"encoder": 0, "retriever": 0, "decoder": 0}


@pytest.fixture(scope="session")
def gateway_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    """All services with the released checkpoint and two banks, the gateway before them."""
    folder = tmp_path_factory.mktemp("gateway")
    wishes = launch_options(ROOT / "checkpoints" / "small", folder)
    with LocalServices(replace(wishes, gateway=True)) as running:
        with running.client() as connected:
            connected.create_bank("people")
            people = [Document(text, source=name) for name, text in PEOPLE.items()]
            connected.add("people", people)
            connected.create_bank("reports")
            connected.add("reports", Document(HOSTILE, source="<b>mallory</b>"))
        yield running
    assert running.processes["gateway"].exit_code == 0


@pytest.fixture(scope="session")
def shared_fragile(
    checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalServices]:
    """Services to be harmed, whose decoder holds no memories; use ``fragile``."""
    folder = tmp_path_factory.mktemp("fragile")
    wishes = launch_options(checkpoint.path, folder, MEMORY3_DECODER_MEMORY_CACHE_BYTES="0")
    with LocalServices(wishes) as running:
        yield running


@pytest.fixture
def fragile(shared_fragile: LocalServices) -> Iterator[LocalServices]:
    """Services that a test may kill; they are all there again for the next one."""
    yield shared_fragile
    revive(shared_fragile)


@pytest.fixture
def client(services: LocalServices) -> Iterator[Client]:
    """A client of the shared services."""
    with services.client() as connected:
        yield connected


@pytest.fixture
def bank() -> str:
    """The name of a bank that nobody else uses; it does not exist yet."""
    return new_bank_name()


def new_bank_name() -> str:
    """A name for a bank that nobody else uses."""
    return f"bank-{uuid.uuid4().hex[:12]}"
