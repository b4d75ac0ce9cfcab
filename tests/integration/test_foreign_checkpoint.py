"""What one checkpoint wrote is refused by another, in every way the two could meet.

Each refusal is FAILED_PRECONDITION with the reason CHECKPOINT_MISMATCH, names the field that
differs with both of its values, says what to do, and leaves everything as it was. Two checkpoints
of different weights share an embedder here, so that nothing but the digest tells them apart.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from memory3_retriever.bank.store import BankStore

from memory3.checkpoint import Checkpoint
from memory3.errors import CheckpointMismatchError, CorruptDataError
from memory3.memory.envelope import pack, unpack, verify
from memory3.memory.reader import MemoryReader
from memory3.people import biography, sample_people
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import decoder_pb2 as dec
from memory3.v1 import encoder_pb2 as enc
from memory3.v1 import memory_pb2 as mem
from memory3.v1 import retriever_pb2 as ret
from tests.integration.in_process import InProcess, Refusal, Running, refusal

EAGER, LAZY = "banks/eager", "banks/lazy"
ONE = mem.Reference(text="Ada sails.")


def _references() -> list[mem.Reference]:
    rng = Random(81)
    people = sample_people(rng, 12)
    return [
        mem.Reference(text=biography(rng, person, num_facts=2), title=person.name)
        for person in people
    ]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The checkpoint that wrote everything."""
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "ours", seed=0)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Another one of the same shape, with the same tokenizer and embedder."""
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "theirs", seed=1)


@pytest.fixture(scope="module")
def start() -> Iterator[InProcess]:
    """Starts services."""
    with InProcess() as started:
        yield started


@pytest.fixture(scope="module")
def our_encoder(start: InProcess, ours: Checkpoint) -> Running:
    """An encoder of ours."""
    return start.encoder(ours)


@pytest.fixture(scope="module")
def their_encoder(start: InProcess, theirs: Checkpoint) -> Running:
    """An encoder of theirs."""
    return start.encoder(theirs)


@pytest.fixture(scope="module")
def written(
    start: InProcess, ours: Checkpoint, our_encoder: Running,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:  # fmt: skip
    """A data folder of ours: a bank with memories, one without, and a snapshot."""
    folder = tmp_path_factory.mktemp("written") / "data"
    retriever = start.retriever(ours, folder, our_encoder)
    for name, policy in ((EAGER, ret.WRITE_POLICY_EAGER), (LAZY, ret.WRITE_POLICY_LAZY)):
        bank = ret.Bank(name=name, write_policy=policy)
        retriever.call("CreateBank", ret.CreateBankRequest(bank=bank))
        (answer,) = retriever.call(
            "AddReferences", ret.AddReferencesRequest(bank=name, references=_references())
        )
        assert not any(result.HasField("error") for result in answer.results)
    retriever.call("SnapshotBank", ret.SnapshotBankRequest(name=EAGER, snapshot="kept"))
    retriever.stop()
    return folder


@pytest.fixture
def data(written: Path, tmp_path: Path) -> Path:
    """A copy of that folder for one test."""
    return Path(shutil.copytree(written, tmp_path / "data"))


@pytest.fixture
def ids(written: Path) -> list[str]:
    """The ids of all references, which are the same in both banks."""
    return [key.hex() for key in _open(written, "eager", lambda store: store.vector_keys())]


def _open(folder: Path, bank: str, look: Callable[[BankStore], Any]) -> Any:
    path = folder / "banks" / bank
    store = BankStore(path, bank, map_bytes=1 << 26, max_map_bytes=1 << 30)
    try:
        return look(store)
    finally:
        store.environment.close()


def state(folder: Path) -> dict[str, Any]:
    """Everything in the banks of a folder that nobody has open."""

    def look(store: BankStore) -> Any:
        keys = sorted(store.vector_keys())
        return (
            store.info, store.statistics(), store.get(keys), store.memories(keys),
            store.vectors(keys).tolist(),
        )  # fmt: skip

    names = sorted(path.name for path in (folder / "banks").iterdir())
    return {name: _open(folder, name, look) for name in names}


def assert_mismatch(
    actual: Refusal, expected: object, met: object, field: str = "checkpoint_digest"
) -> None:
    """A refusal tells the field with both values, and what to do."""
    assert (actual.code, actual.reason) == ("FAILED_PRECONDITION", "CHECKPOINT_MISMATCH")
    assert actual.field == field
    assert (actual.metadata["expected"], actual.metadata["actual"]) == (str(expected), str(met))
    assert actual.remedy


def named(ids: list[str]) -> ret.Query:
    """A query for references by id, which needs no encoder."""
    return ret.Query(references=ret.ReferenceIds(ids=ids))


TEXT = ret.Query(text="Where was she born?")

# What could mix two checkpoints in a bank, as a method and a request to it.
Meet = Callable[[str, list[str], str], tuple[str, Any]]
WRITES: dict[str, Meet] = {
    "AddDocuments": lambda bank, ids, digest: (
        "AddDocuments",
        ret.AddDocumentsRequest(bank=bank, documents=[ret.Document(text="Ada sails.")]),
    ),
    "AddReferences": lambda bank, ids, digest: (
        "AddReferences", ret.AddReferencesRequest(bank=bank, references=[ONE]),
    ),
}  # fmt: skip
TEXT_READS: dict[str, Meet] = {
    "Search": lambda bank, ids, digest: ("Search", ret.SearchRequest(bank=bank, queries=[TEXT])),
    "Retrieve": lambda bank, ids, digest: (
        "Retrieve", ret.RetrieveRequest(bank=bank, queries=[TEXT], checkpoint_digest=digest),
    ),
}  # fmt: skip
NAMED_READS: dict[str, Meet] = {
    "Search-named": lambda bank, ids, digest: (
        "Search", ret.SearchRequest(bank=bank, queries=[named(ids)]),
    ),
    "Search-vector": lambda bank, ids, digest: (
        "Search",
        ret.SearchRequest(bank=bank, queries=[ret.Query(vector=enc.Vector(values=[1.0] * 384))]),
    ),
    "Retrieve-named": lambda bank, ids, digest: (
        "Retrieve", ret.RetrieveRequest(bank=bank, queries=[named(ids)], checkpoint_digest=digest),
    ),
}  # fmt: skip
MEETINGS = {**WRITES, **TEXT_READS, **NAMED_READS}


@pytest.mark.parametrize("bank", [EAGER, LAZY])
@pytest.mark.parametrize("meeting", MEETINGS)
def test_a_retriever_of_another_checkpoint_uses_no_bank(
    start: InProcess, ours: Checkpoint, theirs: Checkpoint, their_encoder: Running, data: Path,
    ids: list[str], bank: str, meeting: str,
) -> None:  # fmt: skip
    """It opens the folder, says whose the bank is, and neither adds to it nor reads from it."""
    before = state(data)
    retriever = start.retriever(theirs, data, their_encoder)
    (described,) = retriever.call("GetBank", ret.GetBankRequest(name=bank))
    assert described.bank.checkpoint_digest == ours.digest
    method, request = MEETINGS[meeting](bank, ids, theirs.digest)
    actual = refusal(lambda: retriever.call(method, request))
    assert_mismatch(actual, ours.digest, theirs.digest)
    retriever.stop()
    assert state(data) == before


@pytest.mark.parametrize("bank", [EAGER, LAZY])
def test_nor_does_it_hand_out_memories_to_those_who_wrote_them(
    start: InProcess, ours: Checkpoint, theirs: Checkpoint, their_encoder: Running, data: Path,
    ids: list[str], bank: str,
) -> None:  # fmt: skip
    """Asked with the bank's own digest, a retriever of another checkpoint still refuses."""
    retriever = start.retriever(theirs, data, their_encoder)
    request = ret.RetrieveRequest(bank=bank, queries=[named(ids)], checkpoint_digest=ours.digest)
    actual = refusal(lambda: retriever.call("Retrieve", request))
    assert_mismatch(actual, ours.digest, theirs.digest)
    retriever.stop()


@pytest.mark.parametrize("meeting", {**WRITES, **TEXT_READS})
def test_an_encoder_of_another_checkpoint_writes_and_embeds_nothing(
    start: InProcess, ours: Checkpoint, theirs: Checkpoint, their_encoder: Running, data: Path,
    ids: list[str], meeting: str,
) -> None:  # fmt: skip
    """Neither a memory nor a vector of it comes into a bank, or is compared with one in it."""
    before = state(data)
    retriever = start.retriever(ours, data, their_encoder)
    for bank in (EAGER, LAZY):
        method, request = MEETINGS[meeting](bank, ids, ours.digest)
        actual = refusal(lambda: retriever.call(method, request))  # noqa: B023 - called at once
        assert_mismatch(actual, ours.digest, theirs.digest)
    retriever.stop()
    assert state(data) == before


def test_an_encoder_of_another_checkpoint_fills_no_lazy_bank(
    start: InProcess, ours: Checkpoint, theirs: Checkpoint, their_encoder: Running, data: Path,
    ids: list[str],
) -> None:  # fmt: skip
    """A memory that is missing is not written by it; one that is there needs no encoder."""
    before = state(data)
    retriever = start.retriever(ours, data, their_encoder)
    method, request = NAMED_READS["Retrieve-named"](LAZY, ids, ours.digest)
    actual = refusal(lambda: retriever.call(method, request))
    assert_mismatch(actual, ours.digest, theirs.digest)
    method, request = NAMED_READS["Retrieve-named"](EAGER, ids, ours.digest)
    answers = retriever.call(method, request)
    sent = {answer.piece.reference_id for answer in answers if answer.HasField("piece")}
    assert sent == set(ids)
    retriever.stop()
    assert state(data) == before


def test_no_bank_is_made_with_an_encoder_of_another_checkpoint(
    start: InProcess, ours: Checkpoint, theirs: Checkpoint, their_encoder: Running, data: Path
) -> None:
    """A bank belongs to the retriever's checkpoint or is not made."""
    before = state(data)
    retriever = start.retriever(ours, data, their_encoder)
    request = ret.CreateBankRequest(bank=ret.Bank(name="banks/new"))
    actual = refusal(lambda: retriever.call("CreateBank", request))
    assert_mismatch(actual, ours.digest, theirs.digest)
    retriever.stop()
    assert state(data) == before


def test_an_encoder_refuses_requests_for_another_checkpoint(
    ours: Checkpoint, theirs: Checkpoint, their_encoder: Running
) -> None:
    """Nothing is encoded of a request that names another digest."""
    request = enc.EncodeRequest(references=[ONE], checkpoint_digest=ours.digest)
    actual = refusal(lambda: their_encoder.call("Encode", request))
    assert_mismatch(actual, theirs.digest, ours.digest)


def test_a_snapshot_is_not_restored_by_another_checkpoint(
    start: InProcess, ours: Checkpoint, theirs: Checkpoint, their_encoder: Running, data: Path
) -> None:
    """Nor if its manifest is made to say that it belongs there."""
    before = state(data)
    request = ret.RestoreBankRequest(snapshot="kept", name="banks/restored")
    retriever = start.retriever(theirs, data, their_encoder)
    honest = refusal(lambda: retriever.call("RestoreBank", request))
    assert_mismatch(honest, theirs.digest, ours.digest)
    manifest = data / "snapshots" / "kept" / "manifest.json"
    claims = {**json.loads(manifest.read_text()), "checkpoint_digest": theirs.digest}
    del claims["crc32c"]  # whoever forges a manifest leaves out the checksum, as old ones do
    manifest.write_text(json.dumps(claims))
    forged = refusal(lambda: retriever.call("RestoreBank", request))
    assert_mismatch(forged, theirs.digest, ours.digest)
    retriever.stop()
    assert state(data) == before


READ_OPTIONS = {
    "searched": lambda ids: dec.MemoryOptions(),
    "named": lambda ids: dec.MemoryOptions(reference_ids=ids[:2]),
    "strict": lambda ids: dec.MemoryOptions(strict=True),
}


@pytest.mark.parametrize("bank", [EAGER, LAZY])
@pytest.mark.parametrize("options", READ_OPTIONS)
def test_a_decoder_of_another_checkpoint_reads_no_memory(
    start: InProcess, ours: Checkpoint, theirs: Checkpoint, our_encoder: Running, data: Path,
    ids: list[str], bank: str, options: str,
) -> None:  # fmt: skip
    """Generating and scoring fail, and are never degraded; without the bank they work."""
    before = state(data)
    retriever = start.retriever(ours, data, our_encoder)
    decoder = start.decoder(theirs, retriever)
    given = {"prompt": "Who?", "bank": bank, "memory": READ_OPTIONS[options](ids)}
    for method, request in (
        ("Generate", dec.GenerateRequest(**given)),
        ("Score", dec.ScoreRequest(**given, continuations=[" Ada"])),
    ):
        actual = refusal(lambda: decoder.call(method, request))  # noqa: B023 - called at once
        assert_mismatch(actual, ours.digest, theirs.digest)
    assert decoder.call("Generate", dec.GenerateRequest(prompt="Who?"))[-1].HasField("finish")
    decoder.stop()
    retriever.stop()
    assert state(data) == before


def test_a_memory_of_another_checkpoint_inside_a_bank_is_found_out(
    start: InProcess, ours: Checkpoint, theirs: Checkpoint, our_encoder: Running, data: Path,
    ids: list[str],
) -> None:  # fmt: skip
    """Whoever put it there, it is neither handed out nor overlooked by verifying."""
    (sound,) = our_encoder.call("Encode", enc.EncodeRequest(references=[ONE]))
    envelope = pack(replace(unpack(sound.memory.envelope), checkpoint_digest=theirs.digest))
    key = bytes.fromhex(ids[0])
    _open(data, "lazy", lambda store: store.put_memories({key: envelope}))
    retriever = start.retriever(ours, data, our_encoder)
    method, request = NAMED_READS["Retrieve-named"](LAZY, ids[:1], ours.digest)
    actual = refusal(lambda: retriever.call(method, request))
    assert (actual.code, actual.reason) == ("FAILED_PRECONDITION", "CHECKPOINT_MISMATCH")
    assert (actual.metadata["expected"], actual.metadata["actual"]) == (ours.digest, theirs.digest)
    (report,) = retriever.call("VerifyBank", ret.VerifyBankRequest(name=LAZY))
    assert [problem.reference_id for problem in report.problems] == [ids[0]]
    retriever.stop()


def test_an_envelope_is_read_with_its_own_checkpoint_alone(
    ours: Checkpoint, theirs: Checkpoint, our_encoder: Running
) -> None:
    """Checked, opened or decoded with another digest it is refused; a changed digest is damage."""
    (answer,) = our_encoder.call("Encode", enc.EncodeRequest(references=[ONE]))
    envelope = answer.memory.envelope
    assert unpack(envelope, checkpoint_digest=ours.digest).checkpoint_digest == ours.digest
    reader = MemoryReader(theirs.config, theirs.digest, dtype=torch.float32)
    for read in (
        lambda: unpack(envelope, checkpoint_digest=theirs.digest),
        lambda: verify(envelope, checkpoint_digest=theirs.digest),
        lambda: reader.read(envelope),
    ):
        with pytest.raises(CheckpointMismatchError) as raised:
            read()
        assert (raised.value.expected, raised.value.actual) == (theirs.digest, ours.digest)
    raw = bytes.fromhex(ours.digest)
    assert envelope.count(raw) == 1
    with pytest.raises(CorruptDataError):
        reader.read(envelope.replace(raw, bytes.fromhex(theirs.digest)))
