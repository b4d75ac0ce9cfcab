"""A real retriever process for the campaigns, its encoder, and what it may answer.

The encoder is a peer over real sockets in the test's own process, so that all randomness is the
seed's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memory3.rpc.channel import connect
from memory3.rpc.health import READINESS
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import (
    bank_admin_pb2,
    bank_admin_pb2_grpc,
    encoder_pb2,
    memory_pb2,
    retriever_pb2,
    retriever_pb2_grpc,
)
from tests.faults.campaign import FULL
from tests.unit.retriever.encoder_double import EncoderDouble, envelope_of, vector_of

_PATIENCE_S = 120.0
RESTART_S = 10.0


class RetrieverProcess:
    """A retriever on one data folder, started as often as is wanted.

    Args:
        folder: A folder for checkpoint, data, log and port file.
        options: More options of its command.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options = folder, options
        self.data = folder / "data"
        self.checkpoint = tiny_checkpoint(folder / "checkpoint")
        self.encoder = EncoderDouble(self.checkpoint.digest)
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: grpc.Channel | None = None

    def start(self, environment: Mapping[str, str] | None = None, data: Path | None = None) -> None:
        """Start it and wait until it is ready; within ten seconds in a full campaign."""
        self.kill()
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        arguments = ["--checkpoint", self.checkpoint.path, "--data", data or self.data]
        arguments += ["--encoder", self.encoder.address, "--port", "0", "--port-file", port_file]
        begun = time.monotonic()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "memory3_retriever", *map(str, arguments), *self.options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "MEMORY3_RETRIEVER_MAP_BYTES": str(1 << 20)}
                | dict(environment or {}),
            )
        while not port_file.exists() or not port_file.read_text().strip():
            assert self.alive, f"it ended: {self.log_tail()}"
            assert time.monotonic() < begun + _PATIENCE_S
            time.sleep(0.02)
        self.address = f"127.0.0.1:{port_file.read_text().strip()}"
        self._channel = connect(self.address, retries=False)
        health = health_pb2_grpc.HealthStub(self._channel)
        while True:
            try:
                answer = health.Check(health_pb2.HealthCheckRequest(service=READINESS), timeout=5)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    break
            except grpc.RpcError:
                pass
            assert self.alive, f"it ended: {self.log_tail()}"
            assert time.monotonic() < begun + _PATIENCE_S
            time.sleep(0.02)
        if os.environ.get(FULL):
            assert time.monotonic() < begun + RESTART_S
        self.stub = retriever_pb2_grpc.RetrieverServiceStub(self._channel)
        self.admin = bank_admin_pb2_grpc.BankAdminServiceStub(self._channel)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def rss_bytes(self) -> int:
        """The main memory that it takes."""
        assert self._process is not None
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def wait(self) -> int:
        """Wait until it has ended; its exit code."""
        assert self._process is not None
        return self._process.wait(_PATIENCE_S)

    def kill(self) -> None:
        """End it as a crash would, if it runs."""
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._channel = None

    def close(self) -> None:
        """End everything."""
        self.kill()
        self.encoder.stop()

    def log_tail(self) -> str:
        """The end of its log."""
        return (self.folder / "log").read_text()[-2000:]

    def create(self, bank: str, index: str = "exact", lazy: bool = False) -> None:
        """Make a bank."""
        policy = retriever_pb2.WRITE_POLICY_LAZY if lazy else retriever_pb2.WRITE_POLICY_EAGER
        message = retriever_pb2.Bank(name=f"banks/{bank}", index=index, write_policy=policy)
        self.stub.CreateBank(retriever_pb2.CreateBankRequest(bank=message))

    def add(self, bank: str, texts: Iterable[str], source: str = "") -> list[str]:
        """Add references; their ids, which are acknowledged."""
        references = [memory_pb2.Reference(text=text, source=source) for text in texts]
        request = retriever_pb2.AddReferencesRequest(bank=f"banks/{bank}", references=references)
        (response,) = self.stub.AddReferences(iter([request]))
        assert not any(result.error.reason for result in response.results), response
        return [result.id for result in response.results]

    def delete(self, bank: str, ids: Iterable[str] = (), source: str = "") -> int:
        """Delete references; how many there were."""
        request = retriever_pb2.DeleteReferencesRequest(
            bank=f"banks/{bank}", ids=ids, source=source
        )
        return self.stub.DeleteReferences(request).num_deleted

    def search(self, bank: str, text: str, k: int = 5) -> list[tuple[str, str, float]]:
        """Id, text and score of each hit."""
        query = retriever_pb2.Query(vector=encoder_pb2.Vector(values=vector_of(text)))
        request = retriever_pb2.SearchRequest(bank=f"banks/{bank}", queries=[query], k=k)
        (result,) = self.stub.Search(request).results
        return [(hit.reference.id, hit.reference.text, hit.score) for hit in result.hits]

    def retrieve(self, bank: str, ids: Iterable[str], held: Iterable[str] = ()) -> dict[str, bytes]:
        """The memories of references."""
        query = retriever_pb2.Query(references=retriever_pb2.ReferenceIds(ids=ids))
        request = retriever_pb2.RetrieveRequest(
            bank=f"banks/{bank}",
            queries=[query],
            checkpoint_digest=self.checkpoint.digest,
            held_ids=held,
        )
        memories: dict[str, bytes] = {}
        for response in self.stub.Retrieve(request):
            if response.HasField("piece"):
                piece = response.piece
                memories[piece.reference_id] = memories.get(piece.reference_id, b"") + piece.data
        return memories

    def point(self, alias: str, bank: str) -> None:
        """Point an alias at a bank."""
        self.admin.SetAlias(
            bank_admin_pb2.SetAliasRequest(name=f"banks/{alias}", bank=f"banks/{bank}")
        )

    def repair(self, bank: str) -> bank_admin_pb2.RepairBankResponse:
        """Mend a bank."""
        return self.admin.RepairBank(bank_admin_pb2.RepairBankRequest(name=f"banks/{bank}"))

    def contents(self, bank: str) -> dict[str, str]:
        """Id and text of every reference."""
        found: dict[str, str] = {}
        token = ""
        while True:
            request = retriever_pb2.ListReferencesRequest(
                bank=f"banks/{bank}", page_size=1000, page_token=token
            )
            page = self.stub.ListReferences(request)
            found |= {reference.id: reference.text for reference in page.references}
            token = page.next_page_token
            if not token:
                return found

    def problems(self, bank: str) -> list[str]:
        """What verifying finds."""
        request = retriever_pb2.VerifyBankRequest(name=f"banks/{bank}")
        return [f"{p.reason} {p.message}" for p in self.stub.VerifyBank(request).problems]

    def require_sound(self, bank: str) -> dict[str, str]:
        """Everything agrees: records, index, memories, and search with an exact one of our own."""
        assert self.problems(bank) == []
        contents = self.contents(bank)
        ids = sorted(contents)
        for start in range(0, len(ids), 256):
            block = ids[start : start + 256]
            assert self.retrieve(bank, block) == {
                each: envelope_of(contents[each], self.checkpoint.digest) for each in block
            }
        for text in list(contents.values())[:3]:
            self.require_exact(bank, contents, text)
        return contents

    def require_exact(self, bank: str, contents: Mapping[str, str], text: str) -> None:
        """A search finds what comparing with everything finds."""
        matrix = np.stack([vector_of(each) for each in contents.values()])
        best = np.sort(matrix @ vector_of(text))[::-1][:5]
        found = self.search(bank, text)
        assert [contents[hit[0]] for hit in found] == [hit[1] for hit in found]
        np.testing.assert_allclose([hit[2] for hit in found], best, atol=1e-5)
