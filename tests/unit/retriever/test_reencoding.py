"""From one checkpoint to the next: banks of both are served, one is made of the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from memory3_retriever.ingest import reencode

from memory3.checkpoint import Checkpoint
from memory3.errors import (
    AlreadyExistsError,
    BackendUnavailableError,
    CheckpointMismatchError,
    FailedPreconditionError,
    InvalidArgumentError,
    SettingsError,
    UnavailableError,
)
from memory3.memory.envelope import verify
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import bank_admin_pb2, bank_admin_pb2_grpc, encoder_pb2, retriever_pb2
from tests.unit.retriever.calls import Retrieved, add_references, named_query, refused, text_query
from tests.unit.retriever.conftest import RunningRetriever
from tests.unit.retriever.encoder_double import EncoderDouble

TEXTS = [f"fact {n} of {n % 7}" for n in range(30)]
Start = Callable[..., RunningRetriever]


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The checkpoint that a team moves to; its references may be shorter."""
    folder = tmp_path_factory.mktemp("newer")
    return tiny_checkpoint(folder / "newer", seed=1, reference_length=20)


class MortalEncoder(EncoderDouble):
    """Goes away after some calls.

    Attributes:
        calls_left: Calls of Encode that it still answers.
    """

    calls_left = 1000

    def Encode(self, request: Any, context: Any) -> Iterator[encoder_pb2.EncodeResponse]:
        self.calls_left -= 1
        self.failure = None if self.calls_left >= 0 else UnavailableError("gone")
        return super().Encode(request, context)


@pytest.fixture
def newer_encoder(newer: Checkpoint) -> Iterator[MortalEncoder]:
    """An encoder that has loaded it."""
    double = MortalEncoder(newer.digest)
    yield double
    double.stop()


@pytest.fixture
def both(
    start_retriever: Start,
    tmp_path: Path,
    checkpoint: Checkpoint,
    encoder: EncoderDouble,
    newer: Checkpoint,
    newer_encoder: EncoderDouble,
) -> Iterator[RunningRetriever]:
    """A retriever with a bank of the old checkpoint, started again for the new one and the old."""
    retriever = start_retriever()
    retriever.create()
    add_references(retriever, *TEXTS, metadata={"kind": "fact"})
    retriever.close()
    served = RunningRetriever(
        newer.path, tmp_path / "data", newer_encoder.address,
        also=f"{checkpoint.path}={encoder.address}",
    )  # fmt: skip
    yield served
    served.close()


def reencoded(
    retriever: RunningRetriever, **target: Any
) -> list[bank_admin_pb2.ReencodeBankResponse]:
    """What the call that makes banks/new of banks/docs tells."""
    admin = bank_admin_pb2_grpc.BankAdminServiceStub(retriever.channel)
    bank = retriever_pb2.Bank(name="banks/new", **target)
    request = bank_admin_pb2.ReencodeBankRequest(source="banks/docs", target=bank)
    return list(admin.ReencodeBank(request))


def ids_of(retriever: RunningRetriever, bank: str) -> list[str]:
    """The ids of all references of a bank."""
    request = retriever_pb2.ListReferencesRequest(bank=bank, page_size=1000)
    return [reference.id for reference in retriever.stub.ListReferences(request).references]


def test_banks_of_both_checkpoints_are_answered_each_with_its_own(
    both: RunningRetriever, checkpoint: Checkpoint, newer: Checkpoint, encoder: EncoderDouble
) -> None:
    """The old bank is searched, read and added to as before; a new one belongs to the new one."""
    add_references(both, "a late fact")
    assert encoder.encoded["a late fact"] == 1
    assert both.create("fresh").checkpoint_digest == newer.digest
    for digest, fits in ((checkpoint.digest, True), (newer.digest, False)):
        request = retriever_pb2.RetrieveRequest(
            bank="banks/docs", queries=[text_query(TEXTS[3])], checkpoint_digest=digest
        )
        if fits:
            envelopes = Retrieved(both.stub.Retrieve(request)).envelopes
            assert len(envelopes) == 5
            for envelope in envelopes.values():
                verify(envelope, checkpoint_digest=checkpoint.digest)
        else:
            error = refused(lambda request=request: both.stub.Retrieve(request))
            assert isinstance(error, CheckpointMismatchError)


def test_a_bank_of_no_given_checkpoint_is_refused_as_before(
    start_retriever: Start, tmp_path: Path, newer: Checkpoint, newer_encoder: EncoderDouble
) -> None:
    """Without ``also``, the old bank can be listed, and searched not."""
    retriever = start_retriever()
    retriever.create()
    retriever.close()
    alone = RunningRetriever(newer.path, tmp_path / "data", newer_encoder.address)
    try:
        request = retriever_pb2.SearchRequest(bank="banks/docs", queries=[text_query("a")])
        assert isinstance(refused(lambda: alone.stub.Search(request)), CheckpointMismatchError)
    finally:
        alone.close()


def test_a_bank_is_made_of_another_with_everything_in_it(
    both: RunningRetriever, newer: Checkpoint
) -> None:
    """Same references under the same ids with the same metadata; memories of the new checkpoint."""
    *steps, last = reencoded(both)
    assert [step.progress.num_done for step in steps][-1] == last.progress.num_total == len(TEXTS)
    assert last.progress.num_failed == 0
    assert last.target.checkpoint_digest == newer.digest
    assert last.target.statistics.num_memories == len(TEXTS)
    ids = ids_of(both, "banks/docs")
    assert ids_of(both, "banks/new") == ids
    request = retriever_pb2.GetReferenceRequest(bank="banks/new", id=ids[0])
    assert both.stub.GetReference(request).reference.metadata == {"kind": "fact"}
    wanted = retriever_pb2.RetrieveRequest(
        bank="banks/new", queries=[named_query(*ids)], checkpoint_digest=newer.digest
    )
    envelopes = Retrieved(both.stub.Retrieve(wanted)).envelopes
    assert envelopes.keys() == set(ids)
    for envelope in envelopes.values():
        verify(envelope, checkpoint_digest=newer.digest)


def test_what_was_cut_off_goes_on_and_what_changed_is_taken_over(
    both: RunningRetriever, newer_encoder: MortalEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half is written when the encoder goes away; the next call encodes the other half only."""
    monkeypatch.setattr(reencode, "BLOCK", 10)
    newer_encoder.calls_left = 2
    error = refused(lambda: reencoded(both))
    assert isinstance(error, BackendUnavailableError)
    newer_encoder.calls_left = 1000
    done = set(ids_of(both, "banks/new"))
    assert 0 < len(done) < len(TEXTS)
    deleted = min(done)
    both.stub.DeleteReferences(
        retriever_pb2.DeleteReferencesRequest(bank="banks/docs", ids=[deleted])
    )
    add_references(both, "added meanwhile")
    last = reencoded(both)[-1]
    assert last.progress.num_total == len(TEXTS)
    assert ids_of(both, "banks/new") == ids_of(both, "banks/docs")
    assert deleted not in ids_of(both, "banks/new")
    assert max(newer_encoder.encoded.values()) == 1


def test_what_the_new_checkpoint_cannot_encode_is_named(both: RunningRetriever) -> None:
    """A reference of more tokens than it takes, among others that it takes."""
    long = " ".join("abcdefghijklmnopqrstuvwxyz")
    (result,) = add_references(both, long)
    assert result.added
    last = reencoded(both)[-1]
    assert last.progress.num_failed == 1
    (failure,) = last.failures
    assert (failure.reference_id, failure.reason) == (result.id, "REFERENCE_TOO_LONG")
    assert last.target.statistics.num_references == len(TEXTS)


def test_options_of_the_target_are_the_source_s_unless_asked_for(both: RunningRetriever) -> None:
    """A lazy bank is copied without a memory being written."""
    last = reencoded(
        both, index="exact", write_policy=retriever_pb2.WRITE_POLICY_LAZY, description="next"
    )[-1]
    assert (last.target.index, last.target.description) == ("exact", "next")
    assert last.target.statistics.num_memories == 0
    assert last.target.statistics.num_references == len(TEXTS)


def test_a_target_that_is_something_else_is_refused(both: RunningRetriever) -> None:
    """Another bank, the source itself, an unknown codec."""
    both.create("new")
    assert isinstance(refused(lambda: reencoded(both)), AlreadyExistsError)
    admin = bank_admin_pb2_grpc.BankAdminServiceStub(both.channel)
    for bank, field in (
        (retriever_pb2.Bank(name="banks/docs"), "target.name"),
        (retriever_pb2.Bank(name="nothing"), "target.name"),
        (retriever_pb2.Bank(name="banks/other", codec="morse"), "target.codec"),
        (retriever_pb2.Bank(name="banks/other", index="drawer"), "target.index"),
    ):
        request = bank_admin_pb2.ReencodeBankRequest(source="banks/docs", target=bank)
        error = refused(lambda request=request: list(admin.ReencodeBank(request)))
        assert isinstance(error, InvalidArgumentError)
        assert error.field == field


def test_a_target_that_is_in_use_is_left_alone(both: RunningRetriever) -> None:
    """After the flip, what was added to the new bank must not go because the old one lacks it."""
    reencoded(both)
    admin = bank_admin_pb2_grpc.BankAdminServiceStub(both.channel)
    admin.SetAlias(bank_admin_pb2.SetAliasRequest(name="banks/live", bank="banks/new"))
    error = refused(lambda: reencoded(both))
    assert isinstance(error, FailedPreconditionError)
    assert error.field == "target.name"


@pytest.mark.parametrize("also", ["nothing", "=127.0.0.1:1", "folder="])
def test_a_further_checkpoint_without_its_encoder_is_refused(
    start_retriever: Start, also: str
) -> None:
    """The setting is named."""
    with pytest.raises(InvalidArgumentError) as raised:
        start_retriever(also=also)
    assert raised.value.field == "also"


def test_one_checkpoint_twice_is_refused(start_retriever: Start, checkpoint: Checkpoint) -> None:
    """Which encoder would answer?"""
    with pytest.raises(SettingsError, match="twice"):
        start_retriever(also=f"{checkpoint.path}=127.0.0.1:1")
