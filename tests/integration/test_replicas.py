"""One writer, two readers, each a process of its own, and shared storage between them."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from pathlib import Path

import grpc
import pytest

from memory3.checkpoint import Checkpoint
from memory3.errors import FailedPreconditionError, Memory3Error
from memory3.rpc.status import from_rpc_error
from memory3.v1 import retriever_pb2
from tests.integration.fleet import (
    BANK,
    PATIENCE_S,
    Fleet,
    Process,
    checkpoint,
    fleet,
    generation,
)
from tests.unit.retriever.encoder_double import EncoderDouble
from tests.waiting import eventually

__all__ = ["checkpoint", "fleet"]


def test_readers_serve_what_is_published_and_nothing_else(fleet: Fleet) -> None:
    """What was added after a publication is seen with the next; a deletion as well."""
    writer, readers = fleet.writer, [fleet.reader("one"), fleet.reader("two")]
    writer.add("batch a", "batch b")
    assert all(reader.bank() is None for reader in readers)
    assert writer.publish() == 1
    writer.add("batch c")
    for reader in readers:
        assert eventually(lambda reader=reader: generation(reader) == 1, PATIENCE_S)
        assert reader.read(fleet.checkpoint)[0] == {"batch a", "batch b"}
    listed = writer.stub.ListReferences(retriever_pb2.ListReferencesRequest(bank=BANK)).references
    doomed = next(each.id for each in listed if each.text == "batch a")
    writer.stub.DeleteReferences(retriever_pb2.DeleteReferencesRequest(bank=BANK, ids=[doomed]))
    assert writer.publish() == 2
    for reader in readers:
        assert eventually(lambda reader=reader: generation(reader) == 2, PATIENCE_S)
        assert reader.read(fleet.checkpoint)[0] == {"batch b", "batch c"}
        bank = reader.bank()
        assert bank is not None
        assert bank.replica.lag.ToNanoseconds() == 0
        assert bank.replica.publish_time.seconds > 0


def test_a_reader_refuses_changes_and_says_where_they_go(fleet: Fleet) -> None:
    """Adding, deleting, making and removing banks."""
    fleet.writer.add("batch a")
    fleet.writer.publish()
    reader = fleet.reader("one")
    assert eventually(lambda: generation(reader) == 1, PATIENCE_S)
    name = retriever_pb2.DeleteBankRequest(name=BANK)
    new = retriever_pb2.CreateBankRequest(bank=retriever_pb2.Bank(name="banks/own"))
    ids = retriever_pb2.DeleteReferencesRequest(bank=BANK, source="s")
    for change in (
        lambda: reader.add("batch z"),
        lambda: reader.stub.DeleteBank(name),
        lambda: reader.stub.CreateBank(new),
        lambda: reader.stub.DeleteReferences(ids),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            change()
        error = from_rpc_error(raised.value)
        assert isinstance(error, FailedPreconditionError)
        assert "publishes" in (error.remedy or "")
    assert reader.read(fleet.checkpoint)[0] == {"batch a"}


def test_a_reader_serves_its_own_copy_while_the_storage_is_away(fleet: Fleet) -> None:
    """It starts again, and finds what it last served."""
    fleet.writer.add("batch a")
    fleet.writer.publish()
    reader = fleet.reader("one")
    assert eventually(lambda: generation(reader) == 1, PATIENCE_S)
    reader.end(signal.SIGKILL)
    fleet.shared.rename(fleet.folder / "away")
    again = fleet.reader("one")
    assert generation(again) == 1
    assert again.read(fleet.checkpoint)[0] == {"batch a"}
    fleet.shared.mkdir()  # a share that is not mounted
    time.sleep(0.5)
    assert generation(again) == 1
    fleet.shared.rmdir()
    (fleet.folder / "away").rename(fleet.shared)
    fleet.writer.add("batch b")
    fleet.writer.publish()
    assert eventually(lambda: generation(again) == 2, PATIENCE_S)


def test_damage_and_half_written_generations_are_never_served(fleet: Fleet) -> None:
    """A pointer to nothing, files without a manifest, a file with another hash: the last one stays,
    and the lag is told.
    """
    fleet.writer.add("batch a")
    fleet.writer.publish()
    reader = fleet.reader("one")
    assert eventually(lambda: generation(reader) == 1, PATIENCE_S)
    bank = fleet.shared / "banks" / "docs"
    half = bank / "generations" / f"{2:012d}"
    half.mkdir()
    (half / "data.mdb").write_bytes(b"half")
    pointer = json.loads((bank / "current.json").read_text())
    (bank / "current.json").write_text(json.dumps({**pointer, "number": 2}))
    first = bank / "generations" / f"{1:012d}" / "manifest.json"
    (half / "manifest.json").write_text(first.read_text().replace('"number": 1', '"number": 2'))
    assert eventually(
        lambda: (b := reader.bank()) is not None and b.replica.lag.ToNanoseconds() > 0
    )
    assert reader.read(fleet.checkpoint)[0] == {"batch a"}
    assert generation(reader) == 1
    (bank / "current.json").write_text("no pointer")
    left = fleet.folder / "writer" / "data" / "banks" / "docs" / "index" / ".tmp-of-a-killed-save"
    left.mkdir(parents=True)
    (left / "graph.bin").write_bytes(b"half")
    fleet.writer.add("batch b")
    assert fleet.writer.publish() == 3
    assert eventually(lambda: generation(reader) == 3, PATIENCE_S)
    assert reader.read(fleet.checkpoint)[0] == {"batch a", "batch b"}


def test_a_deleted_bank_is_served_no_longer(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers let go of it, and of their copies."""
    fleet.writer.add("batch a")
    fleet.writer.publish()
    reader = fleet.reader("one")
    assert eventually(lambda: generation(reader) == 1, PATIENCE_S)
    fleet.writer.stub.DeleteBank(retriever_pb2.DeleteBankRequest(name=BANK))
    fleet.writer.end()
    monkeypatch.setenv("MEMORY3_RETRIEVER_PUBLISH_SECONDS", "0.1")
    fleet.start("writer", "--publish", str(fleet.shared))
    assert eventually(lambda: reader.bank() is None, PATIENCE_S)
    copies = fleet.folder / "one" / "data" / "generations" / "docs"
    assert eventually(lambda: not copies.exists(), PATIENCE_S)


def test_a_writer_killed_while_it_publishes_leaves_readers_whole(
    tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of ten are added and published all the time; the writer is killed at any moment.

    Readers see whole batches only, in the order of adding, and catch up in the end.
    """
    monkeypatch.setenv("MEMORY3_RETRIEVER_PUBLISH_SECONDS", "0.02")
    rng = random.Random(11)
    encoder = EncoderDouble(checkpoint.digest)
    fleet = Fleet(tmp_path, checkpoint, encoder.address)
    readers = [fleet.reader("one"), fleet.reader("two")]
    acknowledged, number = 0, 0
    seen: list[str] = []
    ended = threading.Event()

    def watch(reader: Process) -> None:
        last = (0, 0)
        while not ended.is_set():
            try:
                texts, revision = reader.read(checkpoint)
            except grpc.RpcError as error:
                if not isinstance(from_rpc_error(error), Memory3Error) or reader.bank() is not None:
                    seen.append(f"refused: {error}")
                continue
            batches = sorted({int(text.split()[1]) for text in texts})
            if batches != list(range(len(batches))) or len(texts) != 10 * len(batches):
                seen.append(f"torn: {sorted(texts)}")
            if (len(batches), revision) < last:
                seen.append(f"went back from {last} to {(len(batches), revision)}")
            last = (len(batches), revision)

    watchers = [threading.Thread(target=watch, args=(reader,)) for reader in readers]
    try:
        for _ in range(3):
            if fleet.writer.process.poll() is not None:
                fleet.writer = fleet.start("writer", "--publish", str(fleet.shared))
            until = time.monotonic() + rng.uniform(0.3, 0.8)
            while time.monotonic() < until and number < 24:
                fleet.writer.add(*(f"batch {number} item {item}" for item in range(10)))
                number = acknowledged = number + 1
            if not watchers[0].is_alive():
                assert all(eventually(lambda r=r: generation(r) > 0, PATIENCE_S) for r in readers)
                for watcher in watchers:
                    watcher.start()
            fleet.writer.end(signal.SIGKILL)
        fleet.writer = fleet.start("writer", "--publish", str(fleet.shared))
        wanted = {f"batch {n} item {item}" for n in range(acknowledged) for item in range(10)}
        for reader in readers:
            assert eventually(lambda r=reader: r.read(checkpoint)[0] == wanted, PATIENCE_S)
    finally:
        ended.set()
        for watcher in watchers:
            if watcher.ident is not None:
                watcher.join()
        fleet.end()
        encoder.stop()
    assert seen == []
    kept = sorted((fleet.shared / "banks" / "docs" / "generations").iterdir())
    assert 1 <= len(kept) <= 4  # one more where a publication was just ending
    assert any((kept[-1] / "index").rglob("*"))
