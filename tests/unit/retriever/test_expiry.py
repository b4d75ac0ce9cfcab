"""What has expired is not found and not handed out from that instant on, and soon is deleted."""

import time
from collections.abc import Callable

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from memory3_retriever.bank import reading, store, sweeper

from memory3.errors import InvalidArgumentError, NotFoundError
from memory3.v1 import memory_pb2, retriever_pb2
from tests.unit.retriever.calls import (
    BANK,
    add_documents,
    add_references,
    named_query,
    refused,
    retrieve,
    search,
    text_query,
)
from tests.unit.retriever.conftest import RunningRetriever
from tests.waiting import eventually

HOUR = 3600


class Clock:
    """The time of banks, which a test moves on."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def time_ns(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns() + round(self.ahead_s * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of everything that a bank reads and writes."""
    clock = Clock()
    monkeypatch.setattr(reading, "time", clock)
    monkeypatch.setattr(store, "time", clock)
    return clock


@pytest.fixture
def unswept(
    monkeypatch: pytest.MonkeyPatch, start_retriever: Callable[..., RunningRetriever]
) -> RunningRetriever:
    """A retriever with a bank, whose sweeper never comes."""
    monkeypatch.setattr(sweeper.Sweeper.__init__, "__defaults__", (10.0**6,))
    return start_retriever()


def stamp(in_s: float) -> Timestamp:
    """A time from now."""
    message = Timestamp()
    message.FromNanoseconds(time.time_ns() + round(in_s * 1e9))
    return message


def reference_of(retriever: RunningRetriever, id: str) -> memory_pb2.Reference:
    """A reference as it is handed out."""
    request = retriever_pb2.GetReferenceRequest(bank=BANK, id=id)
    return retriever.stub.GetReference(request).reference


def listed(retriever: RunningRetriever, **fields: object) -> list[str]:
    """The texts of all references, in pages of one."""
    texts: list[str] = []
    token = ""
    while True:
        request = retriever_pb2.ListReferencesRequest(
            bank=BANK, page_size=1, page_token=token, **fields
        )
        page = retriever.stub.ListReferences(request)
        texts.extend(reference.text for reference in page.references)
        if not (token := page.next_page_token):
            return texts


@pytest.mark.parametrize("policy", ["WRITE_POLICY_EAGER", "WRITE_POLICY_LAZY"])
def test_nobody_sees_what_has_expired(unswept: RunningRetriever, clock: Clock, policy: str) -> None:
    """Though it is still on disk: in searches with and without filter, by id, lists, retrievals."""
    unswept.create(write_policy=policy)
    (short,) = add_references(unswept, "one sails", expire_time=stamp(HOUR), source="a")
    texts = [f"sails {word}" for word in ("two", "three", "four")]
    kept = add_references(unswept, *texts, source="a", metadata={"kind": "boat"})
    assert search(unswept, "one sails", k=1) == [["one sails"]]
    assert short.id in retrieve(unswept, text_query("one sails"), k=4).statuses
    clock.ahead_s = HOUR + 1
    assert set(search(unswept, "one sails", k=3)[0]) == set(texts)
    everything = retriever_pb2.Filter(
        conditions=[retriever_pb2.Condition(key="$source", equals="a")]
    )
    assert set(search(unswept, "one sails", k=4, filter=everything)[0]) == set(texts)
    assert retrieve(unswept, text_query("one sails"), k=4).statuses.keys() == {
        each.id for each in kept
    }
    request = retriever_pb2.GetReferenceRequest(bank=BANK, id=short.id)
    assert isinstance(refused(lambda: unswept.stub.GetReference(request)), NotFoundError)
    error = refused(
        lambda: unswept.stub.Retrieve(
            retriever_pb2.RetrieveRequest(
                bank=BANK,
                queries=[named_query(short.id)],
                checkpoint_digest=unswept.loaded.models.main.checkpoint.digest,
            )
        )
    )
    assert isinstance(error, NotFoundError)
    assert sorted(listed(unswept)) == sorted(listed(unswept, source="a")) == sorted(texts)


def test_what_expired_can_be_added_again(unswept: RunningRetriever, clock: Clock) -> None:
    """The same content is new then, with the expiry that it comes with."""
    unswept.create()
    first = add_references(unswept, "Ada sails.", expire_time=stamp(HOUR))
    clock.ahead_s = HOUR + 1
    again = add_references(unswept, "Ada sails.")
    assert [(each.id, each.added) for each in again] == [(first[0].id, True)]
    assert not reference_of(unswept, first[0].id).HasField("expire_time")
    assert search(unswept, "Ada sails.") == [["Ada sails."]]
    statistics = unswept.stub.GetBank(retriever_pb2.GetBankRequest(name=BANK)).bank.statistics
    assert (statistics.num_references, statistics.num_expiring) == (1, 0)


def test_the_sweeper_deletes_and_tells_the_cache(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, start_retriever: Callable[..., RunningRetriever]
) -> None:
    """References, vectors, memories, lookups and cached memories go; what lives stays."""
    monkeypatch.setattr(sweeper.Sweeper.__init__, "__defaults__", (0.02,))
    monkeypatch.setattr(sweeper, "_BATCH", 2)
    retriever = start_retriever()
    retriever.create()
    dying = add_references(
        retriever, *(f"dying {n}" for n in range(5)), expire_time=stamp(HOUR), metadata={"a": "b"}
    )
    (kept,) = add_references(retriever, "living")
    retrieve(retriever, text_query("dying"), k=6)
    bank = retriever.loaded.catalog.get("docs")
    cache = retriever.loaded.models.main.memories.cache
    forgotten: list[str] = []
    forget = cache.delete_many
    monkeypatch.setattr(
        cache, "delete_many", lambda keys: (forgotten.extend(k[2] for k in keys), forget(keys))
    )
    assert bank.store.statistics().num_expiring == 5
    before = bank.store.statistics().used_bytes
    clock.ahead_s = HOUR + 1
    eventually(lambda: bank.store.statistics().num_references == 1)
    statistics = bank.store.statistics()
    assert (statistics.num_expiring, statistics.num_memories) == (0, 1)
    assert 0 < statistics.used_bytes < before
    assert bank.store.vector_keys() == {bytes.fromhex(kept.id)}
    eventually(lambda: set(forgotten) == {each.id for each in dying})
    assert bank.verify().problems == []


def test_documents_live_as_long_as_they_or_the_bank_say(
    retriever: RunningRetriever,
) -> None:
    """Their own time before the bank's; and replacing an unchanged one renews it."""
    retriever.create(default_ttl=Duration(seconds=HOUR))
    default, own = add_documents(
        retriever,
        retriever_pb2.Document(text="Ada sails.", source="a"),
        retriever_pb2.Document(text="Ben rows.", source="b", ttl=Duration(seconds=2 * HOUR)),
    )
    now = time.time()
    ids = [default.reference_ids[0], own.reference_ids[0]]
    for id, seconds in zip(ids, (HOUR, 2 * HOUR), strict=True):
        left = reference_of(retriever, id).expire_time.ToNanoseconds() / 1e9 - now
        assert seconds - 60 < left <= seconds
    (again,) = add_documents(
        retriever,
        retriever_pb2.Document(text="Ada sails.", source="a", ttl=Duration(seconds=9 * HOUR)),
        replace=True,
    )
    assert (again.num_existing, again.num_updated) == (1, 0)
    left = reference_of(retriever, ids[0]).expire_time.ToNanoseconds() / 1e9 - now
    assert left > 8 * HOUR
    assert retriever.loaded.catalog.get("docs").store.statistics().num_expiring == 2


@pytest.mark.parametrize("seconds", [-1, 0, 36_501 * 86_400])
def test_times_to_live_out_of_range_are_refused(retriever: RunningRetriever, seconds: int) -> None:
    """One that is not above 0, or above a hundred years."""
    ttl = Duration(seconds=seconds)
    error = refused(lambda: retriever.create(default_ttl=ttl))
    assert (type(error), error.field) == (InvalidArgumentError, "bank.default_ttl")
    retriever.create()
    (result,) = add_documents(retriever, retriever_pb2.Document(text="Ada sails.", ttl=ttl))
    assert (result.error.reason, result.error.field) == ("INVALID_FIELD", "documents[0].ttl")


def test_a_reference_that_has_expired_already_is_refused(retriever: RunningRetriever) -> None:
    """Adding what nobody can find is a mistake."""
    retriever.create()
    (result,) = add_references(retriever, "Ada sails.", expire_time=stamp(-1))
    assert (result.error.reason, result.error.field) == (
        "INVALID_FIELD",
        "references[0].expire_time",
    )
