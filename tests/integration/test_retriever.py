"""The retriever as a real process, with a real encoder and a real Redis beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from memory3.checkpoint import Checkpoint
from memory3.errors import Memory3Error
from memory3.memory.envelope import unpack
from memory3.people import iter_documents
from memory3.rpc.channel import connect
from memory3.rpc.status import from_rpc_error
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import encoder_pb2, encoder_pb2_grpc, retriever_pb2, retriever_pb2_grpc
from tests.redis_server import RedisServer
from tests.waiting import eventually

BANK = "banks/people"
_START_SECONDS = 120


class Process:
    """A service in a process of its own."""

    def __init__(self, module: str, folder: Path, *options: str) -> None:
        self.name = module
        port_file = folder / f"{module}.port"
        port_file.unlink(missing_ok=True)
        self._log = folder / f"{module}.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, "--port", "0", "--port-file", port_file, *options],
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        end = time.monotonic() + _START_SECONDS
        while not port_file.exists():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < end, self._log.read_text()
            time.sleep(0.02)
        self.address = f"127.0.0.1:{port_file.read_text().strip()}"

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        """Ask it to end; its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=30)


def wait_until_answered(call: Callable[[], object]) -> None:
    """Call until the service is no longer loading."""
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            call()
            return
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > end:
                raise


class Retriever(Process):
    """A retriever process and its stub; the channel waits until it is ready."""

    def __init__(self, folder: Path, checkpoint: Checkpoint, encoder: str, cache: str) -> None:
        super().__init__(
            "memory3_retriever", folder, "--checkpoint", str(checkpoint.path),
            "--data", str(folder / "data"), "--encoder", encoder, "--cache", cache,
        )  # fmt: skip
        # A stream whose server is killed hangs for ever where gRPC may retry it.
        self.channel: grpc.Channel = connect(self.address, retries=False)
        self.stub = retriever_pb2_grpc.RetrieverServiceStub(self.channel)
        wait_until_answered(
            lambda: self.stub.GetInfo(retriever_pb2.RetrieverServiceGetInfoRequest(), timeout=5)
        )

    def terminate(self) -> int:
        """As in the base."""
        self.channel.close()
        return super().terminate()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny checkpoint."""
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="module")
def encoder(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A real encoder."""
    folder = tmp_path_factory.mktemp("encoder")
    process = Process("memory3_encoder", folder, "--checkpoint", str(checkpoint.path))
    with connect(process.address) as channel:
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        wait_until_answered(lambda: stub.GetInfo(encoder_pb2.EncoderServiceGetInfoRequest()))
    yield process
    assert process.terminate() == 0


@pytest.fixture
def start(
    checkpoint: Checkpoint, encoder: Process, tmp_path: Path
) -> Iterator[Callable[..., Retriever]]:
    """Starts retrievers on one data folder."""
    started: list[Retriever] = []

    def start(cache: str = "local") -> Retriever:
        started.append(Retriever(tmp_path, checkpoint, encoder.address, cache))
        return started[-1]

    yield start
    for retriever in started:
        retriever.terminate()


def documents(count: int, seed: int = 0) -> list[retriever_pb2.Document]:
    """Made-up people, one document each."""
    from random import Random

    return [
        retriever_pb2.Document(text=text, source=f"person-{seed}-{number}")
        for number, text in enumerate(iter_documents(Random(seed), count))
    ]


def create(retriever: Retriever, policy: str = "EAGER") -> None:
    """Make the bank."""
    bank = retriever_pb2.Bank(name=BANK, write_policy=f"WRITE_POLICY_{policy}")
    retriever.stub.CreateBank(retriever_pb2.CreateBankRequest(bank=bank), timeout=30)


def add(retriever: Retriever, batch: list[retriever_pb2.Document]) -> list[str]:
    """Add documents; the ids of their references."""
    request = retriever_pb2.AddDocumentsRequest(bank=BANK, documents=batch, replace=True)
    (response,) = retriever.stub.AddDocuments(iter([request]), timeout=120)
    assert [result.error.reason for result in response.results] == [""] * len(batch)
    return [id for result in response.results for id in result.reference_ids]


def retrieve(retriever: Retriever, checkpoint: Checkpoint, texts: list[str]) -> Any:
    """Hits and memories, in a form that can be compared."""
    request = retriever_pb2.RetrieveRequest(
        bank=BANK,
        queries=[retriever_pb2.Query(text=text) for text in texts],
        checkpoint_digest=checkpoint.digest,
    )
    hits: list[list[tuple[str, float, int]]] = []
    envelopes: dict[str, bytes] = {}
    for response in retriever.stub.Retrieve(request, timeout=30):
        if response.WhichOneof("part") == "result":
            hits.append(
                [(h.reference_id, round(h.score, 5), h.memory_status) for h in response.result.hits]
            )
        else:
            piece = response.piece
            envelopes[piece.reference_id] = envelopes.get(piece.reference_id, b"") + piece.data
    for envelope in envelopes.values():
        unpack(envelope, checkpoint_digest=checkpoint.digest)
    return hits, envelopes


def problems(retriever: Retriever) -> list[str]:
    """What VerifyBank finds."""
    report = retriever.stub.VerifyBank(retriever_pb2.VerifyBankRequest(name=BANK), timeout=60)
    assert report.num_checked > 0
    return [problem.reason for problem in report.problems]


def test_real_memories_are_written_found_and_read(
    start: Callable[..., Retriever], checkpoint: Checkpoint
) -> None:
    """The person asked about is found, and memories have the checkpoint's shape."""
    retriever = start()
    create(retriever)
    batch = documents(30)
    add(retriever, batch)
    hits, envelopes = retrieve(retriever, checkpoint, [batch[3].text[:80]])
    assert len(hits[0]) == 5
    layout = checkpoint.info().memory_layout
    for envelope in envelopes.values():
        assert unpack(envelope).shape[0] == layout.num_memory_layers
    first = retriever.stub.GetReference(
        retriever_pb2.GetReferenceRequest(bank=BANK, id=hits[0][0][0])
    )
    assert first.reference.source == "person-0-3"
    assert problems(retriever) == []
    assert retriever.terminate() == 0


def test_eager_and_lazy_banks_give_the_same_memories(
    start: Callable[..., Retriever], checkpoint: Checkpoint
) -> None:
    """When a memory is written changes nothing in it, nor in what is found."""
    retriever = start()
    batch = documents(12)
    queries = [document.text[:60] for document in batch]
    create(retriever, "LAZY")
    add(retriever, batch)
    lazy = retrieve(retriever, checkpoint, queries)
    retriever.stub.DeleteBank(retriever_pb2.DeleteBankRequest(name=BANK))
    create(retriever, "EAGER")
    add(retriever, batch)
    eager = retrieve(retriever, checkpoint, queries)
    assert lazy[0] == eager[0]
    assert lazy[1].keys() == eager[1].keys()
    assert [len(lazy[1][id]) for id in eager[1]] == [len(each) for each in eager[1].values()]


@pytest.mark.redis
def test_redis_flushed_or_killed_changes_no_answer(
    start: Callable[..., Retriever], checkpoint: Checkpoint, own_redis_server: RedisServer
) -> None:
    """Before, after FLUSHALL, while it is dead, and when it is back: the same bytes."""
    retriever = start(f"redis:{own_redis_server.patient_url}")
    create(retriever)
    batch = documents(20)
    add(retriever, batch)
    queries = [document.text[:60] for document in batch]
    expected = retrieve(retriever, checkpoint, queries)
    assert eventually(lambda: own_redis_server.num_keys() == len(expected[1]))
    assert retrieve(retriever, checkpoint, queries) == expected
    info = retriever.stub.GetInfo(retriever_pb2.RetrieverServiceGetInfoRequest())
    assert info.cache_hits >= len(expected[1])
    own_redis_server.flush()
    assert retrieve(retriever, checkpoint, queries) == expected
    own_redis_server.kill()
    for _ in range(3):
        assert retrieve(retriever, checkpoint, queries) == expected
    own_redis_server.start()
    assert retrieve(retriever, checkpoint, queries) == expected
    assert retriever.terminate() == 0


@pytest.mark.redis
def test_replicas_of_a_bank_do_not_disturb_each_other(
    start: Callable[..., Retriever], checkpoint: Checkpoint, redis_server: RedisServer
) -> None:
    """What was cached before a restart is used after it, and is right."""
    first = start(f"redis:{redis_server.patient_url}")
    create(first)
    batch = documents(10)
    add(first, batch)
    queries = [document.text[:60] for document in batch]
    expected = retrieve(first, checkpoint, queries)
    assert first.terminate() == 0
    second = start(f"redis:{redis_server.patient_url}")
    assert retrieve(second, checkpoint, queries) == expected
    info = second.stub.GetInfo(retriever_pb2.RetrieverServiceGetInfoRequest())
    assert (info.cache_hits, info.cache_misses) == (len(expected[1]), 0)


@pytest.mark.parametrize("run", range(3))
def test_a_killed_retriever_keeps_what_it_acknowledged(
    start: Callable[..., Retriever], checkpoint: Checkpoint, run: int
) -> None:
    """SIGKILL under writing: back again, sound, with everything acknowledged."""
    retriever = start()
    create(retriever)
    acknowledged: list[str] = []
    stopped: list[Memory3Error] = []

    def write() -> None:
        for seed in range(1000):
            try:
                acknowledged.extend(add(retriever, documents(5, seed)))
            except grpc.RpcError as error:
                stopped.append(from_rpc_error(error))
                return

    writer = threading.Thread(target=write)
    writer.start()
    assert eventually(lambda: len(acknowledged) >= 30)
    time.sleep(0.05 * run)
    retriever.kill()
    writer.join()
    retriever.channel.close()
    assert len(stopped) == 1
    again = start()
    assert problems(again) == []
    for id in acknowledged:
        request = retriever_pb2.GetReferenceRequest(bank=BANK, id=id)
        assert again.stub.GetReference(request).memory_bytes > 0
    # The interrupted request can simply be sent again.
    add(again, documents(5, 0))
    assert problems(again) == []


def test_everything_at_once(start: Callable[..., Retriever], checkpoint: Checkpoint) -> None:
    """Adding, deleting, searching, retrieving, snapshots and verifying side by side: no error."""
    retriever = start()
    create(retriever)
    add(retriever, documents(20))
    failures: list[BaseException] = []
    done = threading.Event()

    def forever(work: Callable[[int], None]) -> threading.Thread:
        def run() -> None:
            try:
                number = 0
                while not done.is_set():
                    work(number)
                    number += 1
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def change(worker: int) -> Callable[[int], None]:
        def work(number: int) -> None:
            batch = documents(2, 1000 + 500 * worker + number)
            add(retriever, batch)
            # Read-your-writes: what was acknowledged is found at once, and gone when deleted.
            request = retriever_pb2.SearchRequest(
                bank=BANK, queries=[retriever_pb2.Query(text=batch[0].text)], k=50
            )
            (result,) = retriever.stub.Search(request).results
            assert batch[0].source in {hit.reference.source for hit in result.hits}
            delete = retriever_pb2.DeleteReferencesRequest(bank=BANK, source=batch[0].source)
            assert retriever.stub.DeleteReferences(delete).num_deleted > 0
            (result,) = retriever.stub.Search(request).results
            assert batch[0].source not in {hit.reference.source for hit in result.hits}

        return work

    def read(number: int) -> None:
        retrieve(retriever, checkpoint, [f"person {number}", "who plays the cello"])

    def snapshot(number: int) -> None:
        request = retriever_pb2.SnapshotBankRequest(name=BANK, snapshot=f"s{number}")
        retriever.stub.SnapshotBank(request)
        assert problems(retriever) == []

    threads = [forever(work) for work in (change(0), change(1), read, read, snapshot)]
    time.sleep(6)
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert problems(retriever) == []
    assert retriever.terminate() == 0
