"""Search and Retrieve: right order, every memory once, held ones not sent, pieces bounded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from memory3_retriever.bank.ledger import MEMORIES
from memory3_retriever.caches.redis import RedisCache

from memory3.errors import CorruptDataError, DeadlineExceededError, NotFoundError
from memory3.memory.envelope import unpack
from memory3.v1 import encoder_pb2, memory_pb2, retriever_pb2
from tests.redis_server import RedisServer
from tests.unit.retriever.calls import (
    BANK,
    add_references,
    named_query,
    refused,
    retrieve,
    search,
    text_query,
)
from tests.unit.retriever.conftest import RunningRetriever
from tests.unit.retriever.encoder_double import EncoderDouble, envelope_of, vector_of

SENT, HELD = memory_pb2.MEMORY_STATUS_SENT, memory_pb2.MEMORY_STATUS_HELD
TEXTS = [f"{animal} eats {food}" for animal in ("cat", "dog", "owl") for food in ("fish", "corn")]


@pytest.fixture
def filled(retriever: RunningRetriever) -> RunningRetriever:
    """A retriever with six references."""
    retriever.create()
    add_references(retriever, *TEXTS)
    return retriever


def test_search_finds_what_is_like_the_query(filled: RunningRetriever) -> None:
    """The text itself first; five by default; k is respected; scores fall from 1."""
    assert search(filled, "owl eats fish", k=1) == [["owl eats fish"]]
    assert [len(found) for found in search(filled, "owl", "cat eats")] == [5, 5]
    request = retriever_pb2.SearchRequest(bank=BANK, queries=[text_query(TEXTS[0])], k=6)
    scores = [hit.score for hit in filled.stub.Search(request).results[0].hits]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(1.0, abs=1e-5)


def test_all_texts_are_embedded_in_one_call(
    filled: RunningRetriever, encoder: EncoderDouble
) -> None:
    """However many queries there are."""
    before = encoder.calls["Embed"]
    found = search(filled, *(TEXTS * 40), k=1)
    assert found == [[text] for text in TEXTS * 40]
    assert encoder.calls["Embed"] == before + 1


def test_texts_vectors_and_names_mix(filled: RunningRetriever) -> None:
    """Each query is answered in its place; vectors need no encoder and no unit length."""
    ids = [result.id for result in add_references(filled, *TEXTS)]
    values = [float(7 * value) for value in vector_of(TEXTS[3])]
    vector = retriever_pb2.Query(vector=encoder_pb2.Vector(values=values))
    got = retrieve(
        filled, named_query(ids[5], ids[0]), text_query(TEXTS[1]), vector, k=1,
        with_references=True,
    )  # fmt: skip
    found = [[hit.reference.text for hit in result.hits] for result in got.results]
    assert found == [[TEXTS[5], TEXTS[0]], [TEXTS[1]], [TEXTS[3]]]
    assert [result.query_index for result in got.results] == [0, 1, 2]
    assert [hit.score for hit in got.results[0].hits] == [0, 0]


def test_a_text_without_known_features_finds_nothing(filled: RunningRetriever) -> None:
    """Its vector is zero, and zero is near nothing."""
    assert search(filled, "?", "cat")[0] == []


def test_every_memory_is_sent_once(filled: RunningRetriever) -> None:
    """However many queries found it, and it is the one that was written."""
    got = retrieve(filled, text_query("cat"), text_query("fish"), text_query("cat"), k=6)
    assert [len(result.hits) for result in got.results] == [6, 6, 6]
    assert set(got.statuses.values()) == {SENT}
    assert set(got.envelopes) == set(got.statuses)
    digest = filled.loaded.models.main.checkpoint.digest
    expected = {envelope_of(text, digest) for text in TEXTS}
    assert set(got.envelopes.values()) == expected
    assert not got.results[0].hits[0].HasField("reference")


def test_held_memories_are_not_sent(filled: RunningRetriever) -> None:
    """They are still hits; ids that no query found do no harm."""
    ids = [result.id for result in add_references(filled, *TEXTS)]
    got = retrieve(filled, text_query("cat"), k=6, held_ids=[ids[0], ids[4], "0" * 32])
    assert {id for id, status in got.statuses.items() if status == HELD} == {ids[0], ids[4]}
    assert set(got.envelopes) == set(ids) - {ids[0], ids[4]}
    assert filled.sample("memory3_memories_total", origin="held") == 2


def test_large_memories_come_in_pieces(filled: RunningRetriever, encoder: EncoderDouble) -> None:
    """At most 512 KiB each, in order and together."""
    encoder.payload_bytes = 1_300_000
    (result,) = add_references(filled, "a large one")
    got = retrieve(filled, named_query(result.id))
    assert got.num_pieces == 3
    envelope = got.envelopes[result.id]
    assert len(unpack(envelope, checkpoint_digest=encoder.checkpoint_digest).payload) == 1_300_000


def test_the_searched_revision_is_told(filled: RunningRetriever) -> None:
    """It grows with every change that the answer can see."""
    before = retrieve(filled, text_query("cat")).results[0].revision
    add_references(filled, "something new")
    assert retrieve(filled, text_query("cat")).results[0].revision == before + 1


def test_a_second_retrieval_is_served_by_the_cache(filled: RunningRetriever) -> None:
    """The counts are in GetInfo and in the metrics."""
    first = retrieve(filled, text_query("cat"), k=6).envelopes
    assert retrieve(filled, text_query("cat"), k=6).envelopes == first
    info = filled.stub.GetInfo(retriever_pb2.RetrieverServiceGetInfoRequest())
    assert (info.cache_hits, info.cache_misses) == (6, 6)
    assert filled.sample("memory3_memories_total", origin="cache") == 6
    assert filled.sample("memory3_memories_total", origin="bank") == 6
    for step in ("embed", "search", "read"):
        assert filled.sample("memory3_retrieval_seconds_count", step=step) == 2


def test_a_corrupt_value_in_the_cache_is_a_miss(
    start_retriever: Callable[..., RunningRetriever], redis_server: RedisServer
) -> None:
    """Damaged, empty, or of another checkpoint: the bank's own memory is sent instead."""
    retriever = start_retriever(cache=f"redis:{redis_server.patient_url}")
    retriever.create()
    add_references(retriever, *TEXTS)
    good = retrieve(retriever, text_query("cat"), k=6).envelopes
    cache = cast(RedisCache, retriever.loaded.cache)
    cache.settle()
    with redis.Redis.from_url(redis_server.url) as client:
        names = sorted(client.keys("*"))
        first = client.get(names[0])
        values = [first[:-1] + b"!", b"", envelope_of("x", "f" * 64), b"\x80\x04cos\nsystem\n"]
        client.mset(dict(zip(names[:4], values, strict=True)))
    assert retrieve(retriever, text_query("cat"), k=6).envelopes == good
    assert retriever.sample("memory3_cache_rejected_total", reason="CORRUPT_DATA") == 3
    assert retriever.sample("memory3_cache_rejected_total", reason="CHECKPOINT_MISMATCH") == 1
    assert retrieve(retriever, text_query("cat"), k=6).envelopes == good


def _spoil(retriever: RunningRetriever, reference_id: str, value: bytes) -> None:
    environment = retriever.loaded.catalog.get("docs").store.environment
    key = bytes.fromhex(reference_id)
    environment.write(lambda txn: txn.put(key, value, db=environment.databases[MEMORIES]))


def test_a_corrupt_memory_on_disk_is_told_with_its_reference(filled: RunningRetriever) -> None:
    """DATA_LOSS, as the only answer, naming the reference; the others can still be had."""
    ids = [result.id for result in add_references(filled, *TEXTS)]
    good = envelope_of(TEXTS[0], filled.loaded.models.main.checkpoint.digest)
    _spoil(filled, ids[0], good[:-1] + b"!")
    error = refused(lambda: retrieve(filled, named_query(*ids)))
    assert isinstance(error, CorruptDataError)
    assert error.metadata["resource"] == ids[0]
    assert ids[0] in error.message
    assert set(retrieve(filled, named_query(*ids[1:])).envelopes) == set(ids[1:])
    report = filled.stub.VerifyBank(retriever_pb2.VerifyBankRequest(name=BANK))
    assert [(p.reference_id, p.reason) for p in report.problems] == [(ids[0], "MEMORY_CHECKSUM")]


def test_names_must_exist(filled: RunningRetriever) -> None:
    """A reference that does not exist is named by the error, with the field."""
    ids = [result.id for result in add_references(filled, *TEXTS)]
    queries = [text_query("cat"), named_query(ids[0], "f" * 32)]
    for call in (
        lambda: retrieve(filled, *queries),
        lambda: filled.stub.Search(retriever_pb2.SearchRequest(bank=BANK, queries=queries)),
    ):
        error = refused(call)
        assert isinstance(error, NotFoundError)
        assert error.field == "queries[1].references.ids[1]"


def test_an_empty_bank_answers_with_nothing(retriever: RunningRetriever) -> None:
    """One empty result for each query, and no piece."""
    retriever.create()
    got = retrieve(retriever, text_query("cat"), text_query("dog"))
    assert [list(result.hits) for result in got.results] == [[], []]
    assert got.envelopes == {}


def test_a_deadline_that_has_passed_is_told(
    filled: RunningRetriever, encoder: EncoderDouble
) -> None:
    """The encoder's slowness does not hold the caller."""
    encoder.embed_delay_s = 2.0
    error = refused(lambda: retrieve(filled, text_query("cat"), timeout=0.2))
    assert isinstance(error, DeadlineExceededError)


@pytest.mark.parametrize("cache", ["none", "local:64KiB"])
def test_the_cache_changes_no_answer(start_retriever: Any, tmp_path: Path, cache: str) -> None:
    """Without one, or with one too small for everything."""
    plain = start_retriever(cache="local")
    plain.create()
    add_references(plain, *TEXTS)
    before = retrieve(plain, text_query("cat"), text_query("fish"), k=6)
    other = start_retriever(cache=cache)
    for _ in range(2):
        got = retrieve(other, text_query("cat"), text_query("fish"), k=6)
        assert got.results == before.results
        assert got.envelopes == before.envelopes


@pytest.mark.parametrize("with_references", [False, True])
def test_what_is_deleted_between_search_and_reading_is_no_hit(
    filled: RunningRetriever, monkeypatch: pytest.MonkeyPatch, with_references: bool
) -> None:
    """The others are answered as if it had never been found."""
    memories = filled.loaded.models.main.memories
    ensure = memories.ensure
    (found,) = search(filled, TEXTS[0], k=3)
    request = retriever_pb2.SearchRequest(bank=BANK, queries=[text_query(TEXTS[0])], k=1)
    (hit,) = filled.stub.Search(request).results[0].hits

    def ensure_then_delete(*given: Any) -> set[bytes]:
        there = ensure(*given)
        deletion = retriever_pb2.DeleteReferencesRequest(bank=BANK, ids=[hit.reference.id])
        filled.stub.DeleteReferences(deletion)
        return there

    monkeypatch.setattr(memories, "ensure", ensure_then_delete)
    retrieval = retriever_pb2.RetrieveRequest(
        bank=BANK,
        queries=[text_query(TEXTS[0])],
        k=3,
        checkpoint_digest=filled.loaded.models.main.checkpoint.digest,
        with_references=with_references,
    )
    parts = list(filled.stub.Retrieve(retrieval))
    hits = parts[0].result.hits
    assert [one.memory_status for one in hits] == [SENT, SENT]
    assert hit.reference.id not in {one.reference_id for one in hits}
    assert {part.piece.reference_id for part in parts[1:]} == {one.reference_id for one in hits}
    if with_references:
        assert [one.reference.text for one in hits] == found[1:]


def test_what_is_deleted_while_it_is_read_does_not_stay_in_the_cache(
    filled: RunningRetriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read from the bank, deleted, and only then kept: the cache ends without it."""
    memories = filled.loaded.models.main.memories
    put_many = memories.cache.put_many
    request = retriever_pb2.SearchRequest(bank=BANK, queries=[text_query(TEXTS[0])], k=1)
    (hit,) = filled.stub.Search(request).results[0].hits
    kept: list[Any] = []

    def delete_then_put(values: dict[Any, bytes]) -> None:
        deletion = retriever_pb2.DeleteReferencesRequest(bank=BANK, ids=[hit.reference.id])
        assert filled.stub.DeleteReferences(deletion).num_deleted == 1
        kept.extend(values)
        put_many(values)

    # Adding has filled the cache; empty it, so that the bank is read.
    bank = filled.loaded.catalog.get(BANK.removeprefix("banks/"))
    memories.forget(bank, [bytes.fromhex(hit.reference.id)])
    monkeypatch.setattr(memories.cache, "put_many", delete_then_put)
    retrieve(filled, text_query(TEXTS[0]), k=1)
    assert len(kept) == 1
    assert memories.cache.get_many(kept) == {}
