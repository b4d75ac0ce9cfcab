"""What operators do, through the SDK and the command line, and in an object store."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from memory3_retriever.bank.snapshot_places import open_snapshots
from memory3_retriever.bank.snapshot_stores import Snapshot
from memory3_retriever.files import sha256_of
from typer.testing import CliRunner

import memory3
from memory3.cli.app import root
from memory3.errors import AlreadyExistsError, CorruptDataError, InvalidArgumentError, NotFoundError
from memory3.sdk.operations import receipt_sha256
from memory3.sdk.references import Document, Reference
from tests.unit.retriever.banks import DIGEST
from tests.unit.retriever.calls import BANK, add_references, search
from tests.unit.retriever.conftest import RunningRetriever


def run(retriever: RunningRetriever, *words: str) -> str:
    """What a command of memory3 bank writes."""
    options = [] if words[0] == "receipt" else ["--retriever", retriever.address]
    result = CliRunner().invoke(root, ["bank", *words, *options])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def test_a_bank_moves_as_a_file(retriever: RunningRetriever, tmp_path: Path) -> None:
    """Snapshot, download, upload, restore, flip and roll back, by the commands alone."""
    retriever.create("docs")
    add_references(retriever, "one", "two")
    run(retriever, "snapshot", "docs", "--id", "monday")
    file = tmp_path / "docs.m3bank"
    run(retriever, "snapshots", "download", "monday", str(file))
    run(retriever, "snapshots", "upload", str(file), "--id", "moved")
    run(retriever, "snapshots", "verify", "moved")
    run(retriever, "restore", "moved", "docs-v2")
    assert {s["id"] for s in json.loads(run(retriever, "snapshots", "list", "-o", "json"))} == {
        "monday",
        "moved",
    }
    run(retriever, "alias", "set", "current", "docs")
    run(retriever, "alias", "set", "current", "docs-v2", "--expect", "docs")
    run(retriever, "alias", "rollback", "current")
    (alias,) = json.loads(run(retriever, "alias", "list", "-o", "json"))
    assert (alias["bank"], alias["previous_bank"]) == ("docs", "docs-v2")
    run(retriever, "alias", "delete", "current")
    assert [path.name for path in tmp_path.glob(".*.part")] == []


def test_a_receipt_is_checked(retriever: RunningRetriever, tmp_path: Path) -> None:
    """It has the hash that it says; changed, it has not."""
    retriever.create("docs")
    add_references(retriever, "secret", source="hr/a")
    add_references(retriever, "harmless")
    file = tmp_path / "receipt.json"
    run(retriever, "erase", "docs", "--source", "hr/", "--yes", "--receipt", str(file))
    told = json.loads(file.read_text())
    assert told["sha256"] == receipt_sha256(told)
    assert len(told["reference_ids"]) == 1
    run(retriever, "receipt", str(file))
    file.write_text(file.read_text().replace('"num_missing": 0', '"num_missing": 1'))
    assert CliRunner().invoke(root, ["bank", "receipt", str(file)]).exit_code == 1
    run(retriever, "warm", "docs")
    run(retriever, "compact", "docs")
    run(retriever, "repair", "docs", "--dry-run")
    assert search(retriever, "harmless") == [["harmless"]]


async def test_the_async_client_does_the_same(retriever: RunningRetriever) -> None:
    """A snapshot goes down and up again through streams in both directions."""
    retriever.create("docs")
    add_references(retriever, "one")
    async with memory3.AsyncClient(retriever=retriever.address) as client:
        await client.snapshot_bank(BANK, "first")
        parts = [part async for part in client.download_snapshot("first")]
        await client.delete_snapshot("first")
        assert (await client.upload_snapshot(parts[0], parts[1:])).id == "first"
        assert [s.id async for s in client.list_snapshots(bank="docs")] == ["first"]


def test_an_object_store_keeps_snapshots(tmp_path: Path) -> None:
    """Whole or not at all, replaced without a trace, and missing or damaged ones are told of."""
    store = open_snapshots("memory://")
    file = tmp_path / "data"
    file.write_bytes(b"x" * 1_500_000)
    sha256, size = sha256_of(file)
    snapshot = Snapshot("first", "docs", 1, sha256, size, DIGEST, 5)
    store.add(file, snapshot)
    assert store.all() == [snapshot]
    blocks = list(store.read(store.manifest("first")))
    assert b"".join(blocks) == file.read_bytes()
    assert max(map(len, blocks)) <= 512 << 10
    with pytest.raises(AlreadyExistsError):
        store.add(file, snapshot)
    file.write_bytes(b"other")
    sha256, size = sha256_of(file)
    other = Snapshot("first", "docs", 2, sha256, size, DIGEST, 5)
    store.replace(file, other)
    assert b"".join(store.read(store.manifest("first"))) == b"other"
    with pytest.raises(CorruptDataError):
        list(store.read(snapshot))
    assert store.delete("first")
    assert not store.delete("first")
    with pytest.raises(NotFoundError):
        store.manifest("first")


def test_a_retriever_keeps_its_snapshots_where_it_is_told(
    start_retriever: Callable[..., RunningRetriever], tmp_path: Path
) -> None:
    """A folder, or an object store through the whole service; an unknown place is refused."""
    for place in (str(tmp_path / "elsewhere"), "memory://"):
        retriever = start_retriever(snapshots=place, data=tmp_path / place.strip(":/")[-4:])
        retriever.create("docs")
        add_references(retriever, "one")
        run(retriever, "snapshot", "docs", "--id", "first")
        run(retriever, "restore", "first", "again")
    assert (tmp_path / "elsewhere" / "first" / "data.mdb").exists()
    with pytest.raises(InvalidArgumentError):
        open_snapshots("ftp://host/folder")


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.zst"])
def test_export_and_import_keep_ids(
    retriever: RunningRetriever, tmp_path: Path, ending: str
) -> None:
    """Every reference comes back with its id, metadata and expiry; a second import adds nothing."""
    later = datetime(2099, 1, 1, tzinfo=UTC)
    with memory3.Client(retriever=retriever.address) as client:
        client.create_bank("docs")
        client.create_bank("copy")
        client.add("docs", Document("# Head\n\nBody — “ü”.\n\nMore.", source="a.md"))
        client.add_references("docs", [Reference("lone", metadata={"k": "v\n"}, expire_time=later)])
        file = str(tmp_path / f"docs.{ending}")
        run(retriever, "export", "docs", file)
        run(retriever, "import", "copy", file)
        again = json.loads(run(retriever, "import", "copy", file, "-o", "json"))
        assert again["added"] == 0

        def content(bank: str) -> list[Reference]:
            found = client.list_references(bank)
            return [dataclasses.replace(each, create_time=None) for each in found]

        assert content("copy") == content("docs")
        assert len(content("docs")) >= 2
