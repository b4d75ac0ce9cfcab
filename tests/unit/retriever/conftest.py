"""A tiny checkpoint, an encoder over real sockets, and a whole retriever on a free port."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from memory3_retriever.loading import Loaded
from memory3_retriever.service import RetrieverService
from memory3_retriever.settings import RetrieverSettings
from prometheus_client import CollectorRegistry

from memory3.checkpoint import Checkpoint
from memory3.rpc.channel import connect
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import bank_admin_pb2_grpc, retriever_pb2, retriever_pb2_grpc
from tests.unit.retriever.encoder_double import EncoderDouble


class RunningRetriever:
    """A retriever that answers calls, and what a test may look into."""

    def __init__(self, checkpoint: Path, data: Path, encoder: str, **options: Any) -> None:
        settings = RetrieverSettings.load(
            checkpoint=checkpoint, data=data, encoder=encoder, port=0, **options
        )
        self.registry = CollectorRegistry()
        self.service = RetrieverService(settings, self.registry)
        self.service.server.start()
        self.service.load()
        self.service.server.health.set_ready()
        self.address = self.service.server.address
        self.channel: grpc.Channel = connect(self.address, retries=False)
        self.stub = retriever_pb2_grpc.RetrieverServiceStub(self.channel)
        self.admin = bank_admin_pb2_grpc.BankAdminServiceStub(self.channel)

    @property
    def loaded(self) -> Loaded:
        """The parts behind the servicer."""
        loaded = self.service._loaded
        assert loaded is not None
        return loaded

    def sample(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 if it was never counted."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def create(self, name: str = "docs", **options: Any) -> retriever_pb2.Bank:
        """Make a bank."""
        bank = retriever_pb2.Bank(name=f"banks/{name}", **options)
        return self.stub.CreateBank(retriever_pb2.CreateBankRequest(bank=bank)).bank

    def close(self) -> None:
        """Stop, and let go of the data folder."""
        self.channel.close()
        self.service.server.stop(0)
        self.service.close()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkpoint]:
    """A tiny checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoint")
    yield tiny_checkpoint(folder / "tiny")
    shutil.rmtree(folder)


@pytest.fixture
def encoder(checkpoint: Checkpoint) -> Iterator[EncoderDouble]:
    """An encoder with the same checkpoint."""
    double = EncoderDouble(checkpoint.digest)
    yield double
    double.stop()


@pytest.fixture
def start_retriever(
    checkpoint: Checkpoint, encoder: EncoderDouble, tmp_path: Path
) -> Iterator[Callable[..., RunningRetriever]]:
    """Starts retrievers on one data folder, one after the other."""
    running: list[RunningRetriever] = []

    def start(**options: Any) -> RunningRetriever:
        while running:
            running.pop().close()
        given = {"checkpoint": checkpoint.path, "data": tmp_path / "data", **options}
        retriever = RunningRetriever(encoder=encoder.address, **given)
        running.append(retriever)
        return retriever

    yield start
    while running:
        running.pop().close()


@pytest.fixture
def retriever(start_retriever: Callable[..., RunningRetriever]) -> RunningRetriever:
    """A retriever with its defaults."""
    return start_retriever()
