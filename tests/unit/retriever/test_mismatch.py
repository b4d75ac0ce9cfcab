"""A bank belongs to one checkpoint and one embedder: every path that could mix them refuses."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from memory3_retriever.bank.ledger import MEMORIES

from memory3.checkpoint import Checkpoint
from memory3.errors import CheckpointMismatchError
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import memory_pb2, retriever_pb2
from tests.unit.retriever.calls import (
    BANK,
    add_documents,
    add_references,
    named_query,
    refused,
    retrieve,
    text_query,
)
from tests.unit.retriever.conftest import RunningRetriever
from tests.unit.retriever.encoder_double import EncoderDouble, envelope_of

# How long the retriever trusts what the encoder said of itself.
_TRUST_SECONDS = 1.1


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A checkpoint with other weights."""
    return tiny_checkpoint(tmp_path_factory.mktemp("other") / "other", seed=1)


def mismatch(call: Callable[[], Any], field: str) -> CheckpointMismatchError:
    """The mismatch that a call ends with."""
    error = refused(call)
    assert isinstance(error, CheckpointMismatchError), error
    assert error.field == field
    assert error.remedy
    assert error.expected != error.actual
    return error


def test_a_bank_of_another_checkpoint_is_refused_everywhere(
    start_retriever: Callable[..., RunningRetriever],
    encoder: EncoderDouble,
    checkpoint: Checkpoint,
    other: Checkpoint,
) -> None:
    """Adding, searching and retrieving are refused; looking, verifying and deleting are not."""
    first = start_retriever()
    first.create()
    ids = [result.id for result in add_references(first, "one", "two")]
    second = start_retriever(checkpoint=other.path)
    encoder.checkpoint_digest = other.digest
    search = retriever_pb2.SearchRequest(bank=BANK, queries=[text_query("one")])
    for call in (
        lambda: add_references(second, "three"),
        lambda: add_documents(second, "Three."),
        lambda: second.stub.Search(search),
        lambda: retrieve(second, text_query("one")),
        lambda: retrieve(second, named_query(*ids)),
        lambda: retrieve(second, named_query(*ids), digest=checkpoint.digest),
    ):
        error = mismatch(call, "checkpoint_digest")
        assert checkpoint.digest in (error.expected, error.actual)
    assert second.stub.GetBank(retriever_pb2.GetBankRequest(name=BANK)).bank.checkpoint_digest == (
        checkpoint.digest
    )
    report = second.stub.VerifyBank(retriever_pb2.VerifyBankRequest(name=BANK))
    assert list(report.problems) == []
    deleted = second.stub.DeleteReferences(
        retriever_pb2.DeleteReferencesRequest(bank=BANK, ids=ids)
    )
    assert deleted.num_deleted == 2


def test_a_reader_with_another_checkpoint_gets_nothing(retriever: RunningRetriever) -> None:
    """The caller says which checkpoint will read the memories."""
    retriever.create()
    add_references(retriever, "one")
    error = mismatch(
        lambda: retrieve(retriever, text_query("one"), digest="f" * 64), "checkpoint_digest"
    )
    assert error.actual == "f" * 64


def test_an_encoder_of_another_checkpoint_makes_no_bank(
    retriever: RunningRetriever, encoder: EncoderDouble
) -> None:
    """CreateBank asks the encoder first."""
    encoder.checkpoint_digest = "f" * 64
    mismatch(lambda: retriever.create(), "checkpoint_digest")
    listed = retriever.stub.ListBanks(retriever_pb2.ListBanksRequest())
    assert list(listed.banks) == []


def test_an_encoder_that_changed_its_checkpoint_is_noticed(
    retriever: RunningRetriever, encoder: EncoderDouble
) -> None:
    """A restart with another checkpoint between two calls stops adding and searching."""
    retriever.create()
    add_references(retriever, "one")
    encoder.checkpoint_digest = "f" * 64
    # Even at once the encoder itself refuses to encode for another checkpoint.
    mismatch(lambda: add_references(retriever, "two"), "checkpoint_digest")
    time.sleep(_TRUST_SECONDS)
    mismatch(lambda: retrieve(retriever, text_query("one")), "checkpoint_digest")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"embedder_digest": "9" * 64}, "embedder.digest"),
        ({"dimensions": 7}, "embedder.dimensions"),
    ],
)
def test_an_encoder_with_another_embedder_is_noticed(
    retriever: RunningRetriever, encoder: EncoderDouble, change: dict[str, Any], field: str
) -> None:
    """Vectors of two embedders never meet in one index."""
    retriever.create()
    (result,) = add_references(retriever, "one")
    for name, value in change.items():
        setattr(encoder, name, value)
    time.sleep(_TRUST_SECONDS)
    mismatch(lambda: add_references(retriever, "two"), field)
    mismatch(lambda: add_documents(retriever, "Two."), field)
    mismatch(lambda: retrieve(retriever, text_query("one")), field)
    # Memories that are written already do not depend on the embedder.
    assert set(retrieve(retriever, named_query(result.id)).envelopes) == {result.id}


def test_a_memory_of_another_checkpoint_on_disk_is_refused(retriever: RunningRetriever) -> None:
    """However it came there."""
    retriever.create()
    (result,) = add_references(retriever, "one")
    environment = retriever.loaded.catalog.get("docs").store.environment
    foreign = envelope_of("one", "f" * 64)
    key = bytes.fromhex(result.id)
    environment.write(lambda txn: txn.put(key, foreign, db=environment.databases[MEMORIES]))
    mismatch(lambda: retrieve(retriever, named_query(result.id)), "checkpoint_digest")
    report = retriever.stub.VerifyBank(retriever_pb2.VerifyBankRequest(name=BANK))
    assert [problem.reason for problem in report.problems] == ["MEMORY_CHECKPOINT"]


def test_a_memory_of_another_checkpoint_from_the_encoder_is_refused(
    retriever: RunningRetriever, encoder: EncoderDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder that says one thing and writes another does not get through."""
    from tests.unit.retriever import encoder_double

    retriever.create()
    foreign = envelope_of("x", "f" * 64)
    monkeypatch.setattr(encoder_double, "envelope_of", lambda *_: foreign)
    mismatch(lambda: add_references(retriever, "one"), "checkpoint_digest")


def test_a_snapshot_of_another_checkpoint_is_not_restored(
    start_retriever: Callable[..., RunningRetriever], other: Checkpoint
) -> None:
    """The manifest says whose it is, and so does the bank inside."""
    first = start_retriever()
    first.create()
    add_references(first, "one")
    first.stub.SnapshotBank(retriever_pb2.SnapshotBankRequest(name=BANK, snapshot="one"))
    second = start_retriever(checkpoint=other.path)
    request = retriever_pb2.RestoreBankRequest(snapshot="one", name="banks/copy")
    mismatch(lambda: second.stub.RestoreBank(request), "checkpoint_digest")
    names = [bank.name for bank in second.stub.ListBanks(retriever_pb2.ListBanksRequest()).banks]
    assert names == [BANK]


def test_two_banks_never_share_a_cached_memory(
    start_retriever: Callable[..., RunningRetriever], encoder: EncoderDouble, tmp_path: Path
) -> None:
    """A bank of the same name made later, or restored, has keys of its own."""
    retriever = start_retriever()
    retriever.create()
    (result,) = add_references(retriever, "one")
    retrieve(retriever, named_query(result.id))
    retriever.stub.DeleteBank(retriever_pb2.DeleteBankRequest(name=BANK))
    retriever.create()
    encoder.payload_bytes = 9000
    request = retriever_pb2.AddReferencesRequest(
        bank=BANK, references=[memory_pb2.Reference(text="one")]
    )
    list(retriever.stub.AddReferences(iter([request])))
    got = retrieve(retriever, named_query(result.id))
    assert len(got.envelopes[result.id]) > 9000
