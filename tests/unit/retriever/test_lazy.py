"""Lazy banks: the memory is written at the first retrieval, once, within the time there is."""

import threading
import time

import pytest

from memory3.errors import BackendUnavailableError, CheckpointMismatchError
from memory3.v1 import memory_pb2, retriever_pb2
from tests.unit.retriever.calls import BANK, add_references, named_query, refused, retrieve, search
from tests.unit.retriever.conftest import RunningRetriever
from tests.unit.retriever.encoder_double import EncoderDouble
from tests.waiting import eventually

SENT, LEFT_OUT = memory_pb2.MEMORY_STATUS_SENT, memory_pb2.MEMORY_STATUS_LEFT_OUT
TEXTS = [f"lazy text number {n}" for n in range(8)]


@pytest.fixture
def ids(retriever: RunningRetriever, encoder: EncoderDouble) -> list[str]:
    """A lazy bank with eight references, none of them encoded."""
    retriever.create(write_policy="WRITE_POLICY_LAZY")
    ids = [result.id for result in add_references(retriever, *TEXTS)]
    assert not encoder.encoded
    return ids


def statistics(retriever: RunningRetriever) -> retriever_pb2.BankStatistics:
    """What is in the bank."""
    return retriever.stub.GetBank(retriever_pb2.GetBankRequest(name=BANK)).bank.statistics


def test_references_are_found_before_they_are_encoded(
    retriever: RunningRetriever, ids: list[str]
) -> None:
    """Text and vector are stored at once; the memory is not, and that is no problem."""
    assert search(retriever, TEXTS[3], k=1) == [[TEXTS[3]]]
    assert (statistics(retriever).num_references, statistics(retriever).num_memories) == (8, 0)
    request = retriever_pb2.GetReferenceRequest(bank=BANK, id=ids[0])
    assert retriever.stub.GetReference(request).memory_bytes == 0
    report = retriever.stub.VerifyBank(retriever_pb2.VerifyBankRequest(name=BANK))
    assert list(report.problems) == []


def test_the_first_retrieval_writes_what_it_needs_and_keeps_it(
    retriever: RunningRetriever, encoder: EncoderDouble, ids: list[str]
) -> None:
    """Only the references asked for, and never a second time."""
    got = retrieve(retriever, named_query(*ids[:3]))
    assert got.statuses == dict.fromkeys(ids[:3], SENT)
    assert set(got.envelopes) == set(ids[:3])
    assert statistics(retriever).num_memories == 3
    assert retrieve(retriever, named_query(*ids[:3])).envelopes == got.envelopes
    assert encoder.encoded == dict.fromkeys(TEXTS[:3], 1)


def test_many_callers_at_once_cost_one_encoding(
    retriever: RunningRetriever, encoder: EncoderDouble, ids: list[str]
) -> None:
    """Every caller gets every memory; every text is encoded once."""
    encoder.gate.clear()
    answers: list[set[str]] = []
    callers = [
        threading.Thread(
            target=lambda: answers.append(set(retrieve(retriever, named_query(*ids)).envelopes))
        )
        for _ in range(12)
    ]
    for caller in callers:
        caller.start()
    time.sleep(0.3)
    encoder.gate.set()
    for caller in callers:
        caller.join()
    assert answers == [set(ids)] * 12
    assert encoder.encoded == dict.fromkeys(TEXTS, 1)


def test_what_is_late_is_left_out_and_there_next_time(
    retriever: RunningRetriever, encoder: EncoderDouble, ids: list[str]
) -> None:
    """The hit stays; the memory follows a later retrieval, and nobody asks twice for it."""
    retrieve(retriever, named_query(ids[0]))
    encoder.gate.clear()
    started = time.monotonic()
    got = retrieve(retriever, named_query(*ids[:2]), encode_timeout={"nanos": 100_000_000})
    assert time.monotonic() - started > 0.09
    assert got.statuses == {ids[0]: SENT, ids[1]: LEFT_OUT}
    assert set(got.envelopes) == {ids[0]}
    assert retriever.sample("memory3_memories_total", origin="left_out") == 1
    encoder.gate.set()
    assert set(retrieve(retriever, named_query(*ids[:2])).envelopes) == set(ids[:2])
    assert encoder.encoded[TEXTS[1]] == 1


def test_no_time_at_all_only_begins_the_writing(
    retriever: RunningRetriever, encoder: EncoderDouble, ids: list[str]
) -> None:
    """An encode timeout of zero waits for nothing; what was begun is finished."""
    got = retrieve(retriever, named_query(*ids), encode_timeout={"seconds": 0})
    assert set(got.statuses.values()) <= {SENT, LEFT_OUT}
    assert eventually(lambda: statistics(retriever).num_memories == len(ids))
    assert encoder.encoded == dict.fromkeys(TEXTS, 1)


def test_the_deadline_of_the_call_bounds_the_waiting(
    retriever: RunningRetriever, encoder: EncoderDouble, ids: list[str]
) -> None:
    """The answer still comes in time, with what there is."""
    encoder.gate.clear()
    got = retrieve(retriever, named_query(ids[0]), timeout=5)
    assert got.statuses == {ids[0]: LEFT_OUT}
    encoder.gate.set()


def test_an_encoder_that_is_down_leaves_out(
    retriever: RunningRetriever, encoder: EncoderDouble, ids: list[str]
) -> None:
    """References by name need no encoder to be told; their memories come when it is back."""
    encoder.failure = BackendUnavailableError("down for a test")
    got = retrieve(retriever, named_query(ids[0]))
    assert got.statuses == {ids[0]: LEFT_OUT}
    encoder.failure = None
    assert retrieve(retriever, named_query(ids[0])).statuses == {ids[0]: SENT}


def test_one_refused_reference_does_not_harm_the_others(
    retriever: RunningRetriever, encoder: EncoderDouble, ids: list[str]
) -> None:
    """It alone is left out."""
    encoder.refused.add(TEXTS[1])
    got = retrieve(retriever, named_query(*ids[:3]))
    assert got.statuses == {ids[0]: SENT, ids[1]: LEFT_OUT, ids[2]: SENT}


def test_an_encoder_of_another_checkpoint_never_writes(
    retriever: RunningRetriever, encoder: EncoderDouble, ids: list[str]
) -> None:
    """The mismatch is the call's error, and the bank stays without memories."""
    encoder.checkpoint_digest = "f" * 64
    time.sleep(1.1)
    error = refused(lambda: retrieve(retriever, named_query(ids[0])))
    assert isinstance(error, CheckpointMismatchError)
    assert error.field == "checkpoint_digest"
    assert statistics(retriever).num_memories == 0


def test_a_reference_deleted_while_it_is_encoded_leaves_nothing(
    retriever: RunningRetriever, encoder: EncoderDouble, ids: list[str]
) -> None:
    """Its memory is not stored after it."""
    encoder.gate.clear()
    retrieve(retriever, named_query(ids[0]), encode_timeout={"nanos": 50_000_000})
    request = retriever_pb2.DeleteReferencesRequest(bank=BANK, ids=ids[:1])
    assert retriever.stub.DeleteReferences(request).num_deleted == 1
    encoder.gate.set()
    retrieve(retriever, named_query(ids[1]))
    report = retriever.stub.VerifyBank(retriever_pb2.VerifyBankRequest(name=BANK))
    assert list(report.problems) == []
    assert statistics(retriever).num_memories == 1


def test_deleting_the_bank_while_it_is_written_to(
    retriever: RunningRetriever, encoder: EncoderDouble, ids: list[str]
) -> None:
    """The writing ends quietly, and the name can be taken again."""
    encoder.gate.clear()
    retrieve(retriever, named_query(*ids), encode_timeout={"nanos": 50_000_000})
    retriever.stub.DeleteBank(retriever_pb2.DeleteBankRequest(name=BANK))
    encoder.gate.set()
    retriever.create(write_policy="WRITE_POLICY_LAZY")
    new = [result.id for result in add_references(retriever, *TEXTS)]
    assert new == ids
    assert set(retrieve(retriever, named_query(*new)).envelopes) == set(ids)
