"""A bank that is refused at the start is mended by the command, also where that is killed."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from memory3.cli.app import root
from memory3.rpc.status import from_rpc_error
from memory3.v1 import retriever_pb2
from tests.faults.retrievers import RetrieverProcess

TEXTS = [f"text number {n}" for n in range(60)]


def _break_key(data_file: Path, reference_id: str) -> None:
    """Flip a bit of the key that a text has, in every copy of the record in the file."""
    key, data = bytes.fromhex(reference_id), bytearray(data_file.read_bytes())
    at, count = data.find(key), 0
    while at >= 0:
        # Key, checksum, JSON.
        if data[at + 20 :].startswith(b'{"text"'):
            data[at + 15] ^= 1
            count += 1
        at = data.find(key, at + 1)
    assert count > 0
    data_file.write_bytes(data)


def test_a_refused_bank_is_mended_while_others_answer(tmp_path: Path) -> None:
    """Killed at either end of the change over, mending is done again; nothing sound is lost."""
    retriever = RetrieverProcess(tmp_path, "--cache", "none")
    try:
        retriever.start()
        for bank in ("docs", "other"):
            retriever.create(bank)
        first, *_ = retriever.add("docs", TEXTS, "a.md")
        retriever.add("other", TEXTS)
        retriever.kill()
        _break_key(retriever.data / "banks" / "docs" / "data.mdb", first)
        for place in ("repair.written", "repair.replaced"):
            retriever.start({"MEMORY3_FAILPOINT": place})
            if place == "repair.written":
                with pytest.raises(grpc.RpcError) as raised:
                    retriever.contents("docs")
                assert "memory3 bank repair" in (from_rpc_error(raised.value).remedy or "")
                assert set(retriever.require_sound("other").values()) == set(TEXTS)
            with pytest.raises(grpc.RpcError):
                retriever.repair("docs")
            assert retriever.wait() == -9
        retriever.start()
        # The second time the file was in its place already.
        assert set(retriever.require_sound("docs").values()) == set(TEXTS)
        retriever.add("docs", ["one more"])
        assert not [*retriever.data.glob("banks/.tmp-*")]
    finally:
        retriever.close()


def test_the_command_mends_a_refused_bank_by_its_alias(tmp_path: Path) -> None:
    """A text is beyond reading: it is named, and everything else answers."""
    retriever = RetrieverProcess(tmp_path, "--cache", "none")
    try:
        retriever.start()
        retriever.create("docs")
        first, *_ = retriever.add("docs", TEXTS, "a.md")
        retriever.point("current", "docs")
        retriever.kill()
        data_file = retriever.data / "banks" / "docs" / "data.mdb"
        _break_key(data_file, first)
        # The record of the text as well, which says what the key was.
        data_file.write_bytes(data_file.read_bytes().replace(b'text number 0"', b'text numbeR 0"'))
        retriever.start()
        arguments = ["bank", "repair", "current", "--retriever", retriever.address, "-o", "json"]
        dry = CliRunner().invoke(root, [*arguments, "--dry-run"])
        assert dry.exit_code == 0, dry.output
        done = CliRunner().invoke(root, arguments)
        assert done.exit_code == 0, done.output
        assert json.loads(dry.output)["repairs"] == json.loads(done.output)["repairs"]
        told = json.loads(done.output)
        assert told["num_references_removed"] >= 1
        assert told["index_rebuilt"]
        assert set(retriever.require_sound("docs").values()) == set(TEXTS[1:])
        banks = retriever.stub.ListBanks(retriever_pb2.ListBanksRequest()).banks
        assert [bank.name for bank in banks] == ["banks/docs"]
    finally:
        retriever.close()
