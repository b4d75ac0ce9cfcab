"""A1: pickles that come over the wire, by way of Redis, or in a file that is sent on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from memory3_gateway.settings import GatewaySettings
from typer.testing import CliRunner

from memory3.cli.app import root
from memory3.errors import Memory3Error
from memory3.rpc.status import typed_errors
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import bank_admin_pb2 as adm
from memory3.v1 import memory_pb2
from memory3.v1 import retriever_pb2 as ret
from tests.faults.campaign import Campaign
from tests.faults.canaries import CARELESS, Canary
from tests.faults.scratch import Scratch, scratch_services
from tests.integration.bad_requests import BANK
from tests.integration.in_process import InProcess, Running
from tests.redis_server import RedisServer
from tests.unit.gateway.conftest import RunningGateway
from tests.unit.gateway.http import call

NAMES = tuple(CARELESS)
_PATHS = ("/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/api/banks",
          "/api/banks/known/references")  # fmt: skip
_TYPES = ("application/json", "application/octet-stream", "application/x-python-serialize",
          "application/x-pickle", "multipart/form-data")  # fmt: skip
_DEFECTS = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scratch]:
    """The services."""
    folder = tmp_path_factory.mktemp("wire")
    with pytest.MonkeyPatch.context() as patch, scratch_services(folder, patch) as services:
        yield services


def _send_everywhere(scratch: Scratch, payload: bytes) -> None:
    for method in scratch.methods:
        channel = scratch.known.services[method.owner].channel
        given = iter([payload]) if method.client_streaming else payload
        try:
            answered = method.raw(channel)(given, timeout=30)
            if method.server_streaming:
                next(answered, None)
                answered.cancel()
        except grpc.RpcError as refused:
            code = refused.code()
        else:
            continue
        assert code not in _DEFECTS, method.key


def _upload(scratch: Scratch, payload: bytes) -> None:
    """As a snapshot whose hash is right; it is kept, but never becomes a bank."""
    admin = scratch.known.services["BankAdminService"]
    told = ret.Snapshot(
        id="pickled", bank=BANK, sha256=hashlib.sha256(payload).hexdigest(),
        size_bytes=len(payload), checkpoint_digest=scratch.known.digest,
    )  # fmt: skip
    parts = [adm.UploadSnapshotRequest(snapshot=told), adm.UploadSnapshotRequest(data=payload)]
    admin.call("UploadSnapshot", *parts)
    admin.call("VerifySnapshot", adm.VerifySnapshotRequest(snapshot="pickled"))
    restored = ret.RestoreBankRequest(snapshot="pickled", name="banks/restored")
    with pytest.raises(Memory3Error), typed_errors():
        scratch.known.services["RetrieverService"].call("RestoreBank", restored)
    scratch.renew()


def _import(scratch: Scratch, payload: bytes, folder: Path) -> None:
    """As a file of references."""
    for suffix in (".jsonl", ".jsonl.zst"):
        file = folder / f"references{suffix}"
        file.write_bytes(payload)
        address = scratch.known.services["RetrieverService"].address
        arguments = ["bank", "import", "known", str(file), "--retriever", address]
        raised = CliRunner().invoke(root, arguments).exception
        assert isinstance(raised, SystemExit | Memory3Error), raised


def test_nothing_that_is_sent_is_unpickled(
    scratch: Scratch, tmp_path: Path, canary: Canary, campaign: Campaign
) -> None:
    """Messages of every method, snapshots, and files of the command line."""

    def case(number: int) -> None:
        payload = canary.payloads[NAMES[number // 3]]
        if number % 3 == 0:
            _send_everywhere(scratch, payload)
        elif number % 3 == 1:
            _upload(scratch, payload)
        else:
            _import(scratch, payload, tmp_path)
        assert not canary.was_made
        scratch.require_serving()

    campaign.run("A1", case, full=3 * len(NAMES), short=6)


def test_no_body_is_unpickled(scratch: Scratch, canary: Canary, campaign: Campaign) -> None:
    """The gateway refuses them, whatever they are said to be."""
    services = scratch.known.services
    addresses = {
        name: services[f"{name.title()}Service"].address
        for name in ("decoder", "retriever", "encoder")
    }
    gateway = RunningGateway(GatewaySettings.load(port=0, **addresses))

    def case(number: int) -> None:
        payload = canary.payloads[NAMES[number]]
        for path in _PATHS:
            for kind in _TYPES:
                answer = call("POST", gateway.url + path, payload, {"content-type": kind})
                assert 400 <= answer.status < 500, (path, kind)
                assert json.loads(answer.body)["error"]["message"]

    try:
        campaign.run("A1", case, full=len(NAMES), short=2)
    finally:
        gateway.stop()


def _memory(retriever: Running, digest: str, reference_id: str) -> bytes:
    query = ret.Query(references=ret.ReferenceIds(ids=[reference_id]))
    request = ret.RetrieveRequest(bank=BANK, queries=[query], checkpoint_digest=digest)
    return b"".join(each.piece.data for each in retriever.call("Retrieve", request))


@pytest.mark.redis
def test_no_value_of_redis_is_unpickled(tmp_path: Path, canary: Canary, campaign: Campaign) -> None:
    """What somebody else wrote there is no memory, and the bank's own is given out."""
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint")
    with RedisServer(tmp_path).running() as server, InProcess() as start:
        encoder = start.encoder(checkpoint)
        cache = f"redis:{server.patient_url}"
        retriever = start.retriever(checkpoint, tmp_path / "data", encoder, cache=cache)
        retriever.call("CreateBank", ret.CreateBankRequest(bank=ret.Bank(name=BANK)))
        reference = memory_pb2.Reference(text="Ada sails.")
        added = ret.AddReferencesRequest(bank=BANK, references=[reference])
        (answer,) = retriever.call("AddReferences", added)
        id_ = answer.results[0].id
        expected = _memory(retriever, checkpoint.digest, id_)
        client = server.client()

        def case(number: int) -> None:
            keys = list(client.scan_iter())
            assert keys
            for key in keys:
                client.set(key, canary.payloads[NAMES[number]])
            assert _memory(retriever, checkpoint.digest, id_) == expected

        campaign.run("A1", case, full=len(NAMES), short=2)
        client.close()
