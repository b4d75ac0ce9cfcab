"""Retrievers as processes of their own: one that publishes, and readers on the same storage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from memory3.checkpoint import Checkpoint
from memory3.memory.envelope import verify
from memory3.rpc.channel import connect
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import (
    bank_admin_pb2,
    bank_admin_pb2_grpc,
    memory_pb2,
    retriever_pb2,
    retriever_pb2_grpc,
)
from tests.unit.retriever.encoder_double import EncoderDouble
from tests.waiting import eventually

BANK = "banks/docs"
PATIENCE_S = 60.0


class Process:
    """A retriever as a process."""

    def __init__(self, folder: Path, checkpoint: Checkpoint, encoder: str, *options: str) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        port_file = folder / "port"
        port_file.unlink(missing_ok=True)
        self._log = (folder / "log").open("a")
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "memory3_retriever", "--checkpoint", str(checkpoint.path),
                "--data", str(folder / "data"), "--encoder", encoder, "--port", "0",
                "--port-file", str(port_file), "--index", "hnsw:delta=64", *options,
            ],
            stderr=self._log,
            env={**os.environ, "MEMORY3_RETRIEVER_FOLLOW_SECONDS": "0.1"},
        )  # fmt: skip
        assert eventually(lambda: port_file.exists() and port_file.read_text().strip(), PATIENCE_S)
        self.channel = connect(f"127.0.0.1:{port_file.read_text().strip()}", retries=False)
        self.stub = retriever_pb2_grpc.RetrieverServiceStub(self.channel)
        self.admin = bank_admin_pb2_grpc.BankAdminServiceStub(self.channel)
        assert eventually(self._is_ready, PATIENCE_S), (folder / "log").read_text()

    def _is_ready(self) -> bool:
        try:
            self.stub.GetInfo(retriever_pb2.RetrieverServiceGetInfoRequest(), timeout=5)
        except grpc.RpcError:
            return False
        return True

    def bank(self, name: str = BANK) -> retriever_pb2.Bank | None:
        """A bank as it is served; None if it is not."""
        try:
            request = retriever_pb2.GetBankRequest(name=name)
            return self.stub.GetBank(request, timeout=10).bank
        except grpc.RpcError:
            return None

    def create(self, name: str) -> None:
        """Make a bank."""
        bank = retriever_pb2.Bank(name=name)
        self.stub.CreateBank(retriever_pb2.CreateBankRequest(bank=bank))

    def add(self, *texts: str, bank: str = BANK) -> None:
        """Add references."""
        references = [memory_pb2.Reference(text=text, source="s") for text in texts]
        request = retriever_pb2.AddReferencesRequest(bank=bank, references=references)
        list(self.stub.AddReferences(iter([request]), timeout=60))

    def publish(self, bank: str = BANK) -> int:
        """The number of the new generation."""
        request = bank_admin_pb2.PublishBankRequest(name=bank)
        return int(self.admin.PublishBank(request, timeout=60).generation)

    def point(self, alias: str, bank: str) -> None:
        """Point an alias at a bank."""
        self.admin.SetAlias(bank_admin_pb2.SetAliasRequest(name=alias, bank=bank), timeout=60)

    def read(self, checkpoint: Checkpoint, bank: str = BANK) -> tuple[set[str], int]:
        """All texts, and the revision that they were found in; every memory verified."""
        request = retriever_pb2.RetrieveRequest(
            bank=bank, queries=[retriever_pb2.Query(text="batch")], k=256,
            checkpoint_digest=checkpoint.digest, with_references=True,
        )  # fmt: skip
        results, envelopes = [], dict[str, bytes]()
        for response in self.stub.Retrieve(request, timeout=60):
            if response.WhichOneof("part") == "result":
                results.append(response.result)
            else:
                piece = response.piece
                envelopes[piece.reference_id] = envelopes.get(piece.reference_id, b"") + piece.data
        (result,) = results
        assert envelopes.keys() == {hit.reference_id for hit in result.hits}
        for envelope in envelopes.values():
            verify(envelope, checkpoint_digest=checkpoint.digest)
        return {hit.reference.text for hit in result.hits}, result.revision

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it."""
        self.channel.close()
        self.process.send_signal(number)
        self.process.wait(30)
        self._log.close()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny one."""
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


class Fleet:
    """A writer and its readers on one shared folder."""

    def __init__(self, folder: Path, checkpoint: Checkpoint, encoder: str) -> None:
        self.folder, self.checkpoint, self._encoder = folder, checkpoint, encoder
        self.shared = folder / "shared"
        self._running: list[Process] = []
        self.writer = self.start("writer", "--publish", str(self.shared))
        self.writer.create(BANK)

    def start(self, name: str, *options: str) -> Process:
        """A retriever in a folder of its name."""
        process = Process(self.folder / name, self.checkpoint, self._encoder, *options)
        self._running.append(process)
        return process

    def reader(self, name: str) -> Process:
        """A retriever that follows."""
        return self.start(name, "--follow", str(self.shared))

    def end(self) -> None:
        """End all of them."""
        for process in self._running:
            if process.process.poll() is None:
                process.end()


@pytest.fixture
def fleet(
    tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Fleet]:
    """A writer that publishes when asked."""
    monkeypatch.setenv("MEMORY3_RETRIEVER_PUBLISH_SECONDS", "0")
    encoder = EncoderDouble(checkpoint.digest)
    fleet = Fleet(tmp_path, checkpoint, encoder.address)
    yield fleet
    fleet.end()
    encoder.stop()


def generation(process: Process) -> int:
    """What is served; 0 for nothing."""
    bank = process.bank()
    return 0 if bank is None else int(bank.replica.generation)
