"""Aliases reach readers with the generations that they stand for, and never before."""

from __future__ import annotations

import signal
import threading

import grpc
import pytest

from memory3.errors import FailedPreconditionError
from memory3.rpc.status import from_rpc_error
from memory3.v1 import bank_admin_pb2, retriever_pb2
from tests.integration.fleet import BANK, PATIENCE_S, Fleet, Process, checkpoint, fleet, generation
from tests.waiting import eventually

__all__ = ["checkpoint", "fleet"]

NEXT, CURRENT = "banks/docs-v2", "banks/current"


def points_at(process: Process) -> str:
    """The bank that the alias stands for; empty if it stands for none."""
    bank = process.bank(CURRENT)
    return "" if bank is None else bank.name


def test_an_alias_follows_its_bank_and_no_sooner(fleet: Fleet) -> None:
    """It waits for a generation with all that the bank held when the alias was set."""
    writer, reader = fleet.writer, fleet.reader("one")
    writer.add("batch old")
    writer.point(CURRENT, BANK)
    assert points_at(writer) == BANK
    assert reader.bank(CURRENT) is None
    writer.publish()
    assert eventually(lambda: points_at(reader) == BANK, PATIENCE_S)
    writer.create(NEXT)
    writer.add("batch new", bank=NEXT)
    writer.publish(NEXT)
    assert eventually(lambda: reader.bank(NEXT) is not None, PATIENCE_S)
    writer.add("batch newest", bank=NEXT)
    writer.point(CURRENT, NEXT)
    # A publication of another bank is no reason to point at what is not whole yet.
    writer.add("batch of the old one")
    last = writer.publish()
    assert eventually(lambda: generation(reader) == last, PATIENCE_S)
    assert points_at(reader) == BANK
    writer.publish(NEXT)
    assert eventually(lambda: points_at(reader) == NEXT, PATIENCE_S)
    assert reader.read(fleet.checkpoint, CURRENT)[0] == {"batch new", "batch newest"}
    (alias,) = reader.admin.ListAliases(bank_admin_pb2.ListAliasesRequest()).aliases
    assert (alias.name, alias.bank, alias.previous_bank) == (CURRENT, NEXT, BANK)
    # Back at once: what it stands for is there.
    writer.point(CURRENT, BANK)
    assert eventually(lambda: points_at(reader) == BANK, PATIENCE_S)
    writer.admin.DeleteAlias(bank_admin_pb2.DeleteAliasRequest(name=CURRENT))
    assert eventually(lambda: points_at(reader) == "", PATIENCE_S)


def test_a_reader_keeps_its_aliases_and_refuses_others(fleet: Fleet) -> None:
    """After a kill and while the storage is away; a damaged file of them changes nothing."""
    fleet.writer.add("batch a")
    fleet.writer.publish()
    fleet.writer.point(CURRENT, BANK)
    reader = fleet.reader("one")
    assert eventually(lambda: points_at(reader) == BANK, PATIENCE_S)
    for change in (
        lambda: reader.point("banks/own", BANK),
        lambda: reader.admin.DeleteAlias(bank_admin_pb2.DeleteAliasRequest(name=CURRENT)),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            change()
        assert isinstance(from_rpc_error(raised.value), FailedPreconditionError)
    (fleet.shared / "aliases.json").write_text("no aliases")
    reader.end(signal.SIGKILL)
    reader = fleet.reader("one")
    assert points_at(reader) == BANK
    reader.end(signal.SIGKILL)
    fleet.shared.rename(fleet.folder / "away")
    reader = fleet.reader("one")
    assert reader.read(fleet.checkpoint, CURRENT)[0] == {"batch a"}
    (fleet.folder / "away").rename(fleet.shared)
    # The writer notices, and mends, what was damaged at its next publication.
    fleet.writer.create(NEXT)
    fleet.writer.add("batch b", bank=NEXT)
    fleet.writer.point(CURRENT, NEXT)
    fleet.writer.publish(NEXT)
    assert eventually(lambda: points_at(reader) == NEXT, PATIENCE_S)


def test_callers_of_an_alias_see_one_bank_after_the_other(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Banks are made, published, pointed at and deleted in turn; every call is answered by one."""
    fleet.writer.end()
    monkeypatch.setenv("MEMORY3_RETRIEVER_PUBLISH_SECONDS", "0.05")
    writer = fleet.start("writer", "--publish", str(fleet.shared))
    reader = fleet.reader("one")
    writer.add(*(f"batch 0 item {n}" for n in range(10)))
    writer.point(CURRENT, BANK)
    assert eventually(lambda: points_at(reader) == BANK, PATIENCE_S)
    wrong: list[str] = []
    seen: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            try:
                texts, _ = reader.read(fleet.checkpoint, CURRENT)
            except grpc.RpcError as error:
                wrong.append(f"refused: {error}")
                return
            numbers = {int(text.split()[1]) for text in texts}
            if len(numbers) != 1 or len(texts) != 10:
                wrong.append(f"torn: {sorted(texts)}")
                return
            seen.extend(numbers)

    watchers = [threading.Thread(target=watch) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    last = BANK
    try:
        for number in range(1, 6):
            name = f"banks/docs-{number}"
            writer.create(name)
            writer.add(*(f"batch {number} item {n}" for n in range(10)), bank=name)
            writer.point(CURRENT, name)
            # The bank before is deleted before readers know of its successor.
            writer.stub.DeleteBank(retriever_pb2.DeleteBankRequest(name=last))
            assert eventually(lambda name=name: points_at(reader) == name, PATIENCE_S)
            last = name
        assert eventually(lambda: 5 in seen, PATIENCE_S)
    finally:
        ended.set()
        for watcher in watchers:
            watcher.join()
    assert wrong == []
    # Readers let go of the others when no alias holds them any more.
    assert eventually(lambda: reader.bank("banks/docs-4") is None, PATIENCE_S)
