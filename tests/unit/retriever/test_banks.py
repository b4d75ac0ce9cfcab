"""Banks over gRPC: made, listed, described, verified, copied, restored and removed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from memory3_retriever.bank.catalog import Catalog

from memory3.errors import (
    AlreadyExistsError,
    CorruptDataError,
    FailedPreconditionError,
    NotFoundError,
    StorageFullError,
)
from memory3.v1 import retriever_pb2
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
from tests.unit.retriever.encoder_double import EncoderDouble


def get(retriever: RunningRetriever, name: str = BANK) -> retriever_pb2.Bank:
    """A bank as it is described."""
    return retriever.stub.GetBank(retriever_pb2.GetBankRequest(name=name)).bank


def names(retriever: RunningRetriever) -> list[str]:
    """The names of all banks."""
    response = retriever.stub.ListBanks(retriever_pb2.ListBanksRequest())
    return [bank.name for bank in response.banks]


def test_a_bank_that_is_there_can_be_taken(retriever: RunningRetriever) -> None:
    """With allow_existing the call succeeds, and changes nothing in the bank."""
    retriever.create(description="the first")
    (result,) = add_references(retriever, "kept")
    before = get(retriever)
    bank = retriever_pb2.Bank(name=BANK, description="the second", codec="raw")
    request = retriever_pb2.CreateBankRequest(bank=bank, allow_existing=True)
    assert retriever.stub.CreateBank(request).bank == before
    assert set(retrieve(retriever, named_query(result.id)).envelopes) == {result.id}
    bank.name = "banks/new"
    assert retriever.stub.CreateBank(request.__class__(bank=bank, allow_existing=True)).bank.name
    assert sorted(names(retriever)) == sorted([BANK, "banks/new"])


def test_a_new_bank_belongs_to_the_encoders_checkpoint(
    retriever: RunningRetriever, encoder: EncoderDouble
) -> None:
    """Defaults are filled in, and output fields of the request are ignored."""
    made = retriever.create(description="notes", revision=77, checkpoint_digest="0" * 64)
    assert made == get(retriever)
    assert made.checkpoint_digest == encoder.checkpoint_digest
    assert (made.embedder.name, made.embedder.digest) == ("lexical", encoder.embedder_digest)
    assert (made.index, made.codec, made.description) == ("hnsw", "raw", "notes")
    assert made.write_policy == retriever_pb2.WRITE_POLICY_EAGER
    assert made.revision == 0
    assert made.create_time.seconds > 1_700_000_000
    other = retriever.create("other", index="exact", codec="int8", write_policy="WRITE_POLICY_LAZY")
    assert (other.index, other.codec) == ("exact", "int8")
    assert other.write_policy == retriever_pb2.WRITE_POLICY_LAZY


def test_a_name_is_taken_once(retriever: RunningRetriever) -> None:
    """The second bank of a name is refused, and the first is untouched."""
    retriever.create()
    add_references(retriever, "kept")
    error = refused(lambda: retriever.create())
    assert isinstance(error, AlreadyExistsError)
    assert search(retriever, "kept") == [["kept"]]


def test_banks_are_listed_in_pages(retriever: RunningRetriever) -> None:
    """In the order of names, each once, whatever the size of the page."""
    expected = [f"banks/b{n:02}" for n in range(7)]
    for name in reversed(expected):
        retriever.create(name.removeprefix("banks/"))
    assert names(retriever) == expected
    seen: list[str] = []
    token = ""
    while True:
        request = retriever_pb2.ListBanksRequest(page_size=3, page_token=token)
        response = retriever.stub.ListBanks(request)
        seen.extend(bank.name for bank in response.banks)
        token = response.next_page_token
        if not token:
            break
    assert seen == expected


def test_references_are_listed_in_pages(retriever: RunningRetriever) -> None:
    """By id, all of a bank or of one source."""
    retriever.create()
    add_references(retriever, *(f"a{n}" for n in range(10)), source="a")
    add_references(retriever, *(f"b{n}" for n in range(5)), source="b")
    for source, count in (("", 15), ("a", 10), ("b", 5), ("c", 0)):
        ids: list[str] = []
        token = ""
        while True:
            request = retriever_pb2.ListReferencesRequest(
                bank=BANK, source=source, page_size=4, page_token=token
            )
            response = retriever.stub.ListReferences(request)
            assert len(response.references) <= 4
            ids.extend(reference.id for reference in response.references)
            token = response.next_page_token
            if not token:
                break
        assert len(ids) == count
        assert ids == sorted(set(ids))


def test_a_page_is_cut_where_it_grows_too_large(retriever: RunningRetriever) -> None:
    """Clients accept 4 MiB by default; every reference still comes, on some page."""
    retriever.create()
    for block in range(2):
        add_references(
            retriever, *(f"r{block}-{n}" for n in range(150)), metadata={"k": "v" * 16_000}
        )
    sizes: list[int] = []
    token = ""
    while True:
        request = retriever_pb2.ListReferencesRequest(bank=BANK, page_size=1000, page_token=token)
        response = retriever.stub.ListReferences(request)
        assert response.ByteSize() < 4 << 20
        sizes.append(len(response.references))
        token = response.next_page_token
        if not token:
            break
    assert sum(sizes) == 300
    assert len(sizes) == 2


def test_statistics_count_what_is_there(retriever: RunningRetriever) -> None:
    """References, memories, sources and bytes."""
    retriever.create()
    add_references(retriever, "one", "two", source="s")
    add_references(retriever, "three", source="t")
    statistics = get(retriever).statistics
    assert (statistics.num_references, statistics.num_memories, statistics.num_sources) == (3, 3, 2)
    assert statistics.memory_bytes > 3000
    assert statistics.disk_bytes > statistics.memory_bytes
    assert get(retriever).revision == 2


def test_a_deleted_bank_is_gone(
    start_retriever: Callable[..., RunningRetriever], tmp_path: Path
) -> None:
    """From the list, from the disk, and after a restart; the name is free again."""
    retriever = start_retriever()
    retriever.create()
    add_references(retriever, "secret text")
    delete = retriever_pb2.DeleteBankRequest(name=BANK)
    retriever.stub.DeleteBank(delete)
    assert isinstance(refused(lambda: get(retriever)), NotFoundError)
    assert isinstance(refused(lambda: retriever.stub.DeleteBank(delete)), NotFoundError)
    retriever.stub.DeleteBank(retriever_pb2.DeleteBankRequest(name=BANK, allow_missing=True))
    assert os.listdir(tmp_path / "data" / "banks") == []
    retriever.create()
    assert search(retriever, "secret text") == [[]]
    assert names(start_retriever()) == [BANK]


def test_a_snapshot_becomes_a_bank(retriever: RunningRetriever) -> None:
    """With the same references, memories and hits, apart from the original from then on."""
    retriever.create()
    ids = [result.id for result in add_references(retriever, "one", "two", "three")]
    request = retriever_pb2.SnapshotBankRequest(name=BANK, snapshot="monday")
    snapshot = retriever.stub.SnapshotBank(request).snapshot
    assert (snapshot.id, snapshot.bank, snapshot.revision) == ("monday", BANK, 1)
    assert len(snapshot.sha256) == 64
    retriever.stub.DeleteBank(retriever_pb2.DeleteBankRequest(name=BANK))
    for name in (BANK, "banks/copy"):
        restore = retriever_pb2.RestoreBankRequest(snapshot="monday", name=name)
        bank = retriever.stub.RestoreBank(restore).bank
        assert (bank.name, bank.revision, bank.statistics.num_memories) == (name, 1, 3)
    assert set(retrieve(retriever, named_query(*ids)).envelopes) == set(ids)
    add_references(retriever, "four")
    assert get(retriever, "banks/copy").statistics.num_references == 3
    error = refused(
        lambda: retriever.stub.RestoreBank(
            retriever_pb2.RestoreBankRequest(snapshot="monday", name=BANK)
        )
    )
    assert isinstance(error, AlreadyExistsError)


def test_a_damaged_bank_does_not_stop_the_others(
    start_retriever: Callable[..., RunningRetriever], tmp_path: Path
) -> None:
    """The service starts; that bank answers with its fault, and can be deleted."""
    retriever = start_retriever()
    retriever.create("bad")
    retriever.create()
    add_references(retriever, "kept")
    retriever.close()
    (tmp_path / "data" / "banks" / "bad" / "data.mdb").write_bytes(b"x" * 100_000)
    retriever = start_retriever()
    assert search(retriever, "kept") == [["kept"]]
    assert names(retriever) == ["banks/bad", BANK]
    error = refused(lambda: get(retriever, "banks/bad"))
    assert isinstance(error, CorruptDataError)
    assert str(tmp_path) not in str(error)
    retriever.stub.DeleteBank(retriever_pb2.DeleteBankRequest(name="banks/bad"))
    assert names(retriever) == [BANK]


def test_leftovers_of_a_crash_are_swept(
    start_retriever: Callable[..., RunningRetriever], tmp_path: Path
) -> None:
    """Half-made banks and snapshots are not banks, and do not stay."""
    for folder in ("banks", "snapshots"):
        left = tmp_path / "data" / folder / ".tmp-left"
        left.mkdir(parents=True)
        (left / "data.mdb").write_bytes(b"half")
    retriever = start_retriever()
    assert names(retriever) == []
    assert os.listdir(tmp_path / "data" / "banks") == []
    assert os.listdir(tmp_path / "data" / "snapshots") == []


def test_a_link_among_the_banks_is_not_followed(
    start_retriever: Callable[..., RunningRetriever], tmp_path: Path
) -> None:
    """A bank is a folder of the data folder, or nothing."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("kept")
    (tmp_path / "data" / "banks").mkdir(parents=True)
    (tmp_path / "data" / "banks" / "linked").symlink_to(tmp_path / "elsewhere")
    retriever = start_retriever()
    assert names(retriever) == []
    assert isinstance(refused(lambda: retriever.create("linked")), AlreadyExistsError)
    delete = retriever_pb2.DeleteBankRequest(name="banks/linked", allow_missing=True)
    retriever.stub.DeleteBank(delete)
    assert (tmp_path / "elsewhere" / "precious").read_text() == "kept"


def test_a_data_folder_has_one_retriever(retriever: RunningRetriever, tmp_path: Path) -> None:
    """A second process would change banks behind the first one's index."""
    with pytest.raises(FailedPreconditionError) as raised:
        Catalog(tmp_path / "data", "d" * 64, map_bytes=1 << 20, max_bank_bytes=1 << 30)
    assert raised.value.field == "data"


def test_a_full_bank_says_so(start_retriever: Callable[..., RunningRetriever]) -> None:
    """RESOURCE_EXHAUSTED, with everything that was acknowledged intact."""
    retriever = start_retriever(max_bank_bytes=1 << 20)
    retriever.create()
    added: list[str] = []
    error = None
    for block in range(100):
        texts = [f"block {block} number {n}" for n in range(20)]
        request_result = None
        try:
            request_result = add_references(retriever, *texts)
        except Exception:
            error = refused(lambda: add_references(retriever, *texts))  # noqa: B023
            break
        added.extend(result.id for result in request_result)
    assert isinstance(error, StorageFullError)
    assert error.field == "bank"
    assert len(added) >= 20
    assert set(retrieve(retriever, named_query(*added[-100:])).envelopes) == set(added[-100:])


def test_the_retriever_tells_about_itself(
    start_retriever: Callable[..., RunningRetriever],
) -> None:
    """Checkpoint, plugins, cache without credentials, banks and version."""
    retriever = start_retriever(cache="redis:redis://user:secret@127.0.0.1:1/0")
    retriever.create()
    info = retriever.stub.GetInfo(retriever_pb2.RetrieverServiceGetInfoRequest())
    assert info.checkpoint.digest == retriever.loaded.models.main.checkpoint.digest
    assert list(info.indexes) == ["exact", "hnsw", "ivf"]
    assert info.cache == "redis:redis://127.0.0.1:1/0"
    assert (info.num_banks, bool(info.version)) == (1, True)
    assert retriever.sample("memory3_banks") == 1


def test_metrics_count_what_was_written(retriever: RunningRetriever) -> None:
    """By outcome; the checkpoint's digest is a label."""
    retriever.create()
    add_references(retriever, "one", "two", "two", " ")
    assert retriever.sample("memory3_references_total", outcome="added") == 2
    assert retriever.sample("memory3_references_total", outcome="existing") == 1
    assert retriever.sample("memory3_references_total", outcome="refused") == 1
    digest = retriever.loaded.models.main.checkpoint.digest
    assert retriever.sample("memory3_retriever_checkpoint", digest=digest) == 1


def test_search_over_grpc_is_the_same_as_inside(retriever: RunningRetriever) -> None:
    """In the process and over the wire the answers are the same."""
    from memory3_retriever.limits import TimeLimit
    from memory3_retriever.retrieval.search import TextQuery

    retriever.create()
    add_references(retriever, *(f"text {n} about {n % 5}" for n in range(30)))
    bank = retriever.loaded.catalog.get("docs")
    inside = retriever.loaded.models.main.searcher.find(
        bank, [TextQuery("about 3")], 5, TimeLimit(10)
    )
    request = retriever_pb2.SearchRequest(bank=BANK, queries=[text_query("about 3")])
    hits = retriever.stub.Search(request).results[0].hits
    assert [(hit.reference.id, hit.score) for hit in hits] == [
        (hit.key.hex(), pytest.approx(hit.score)) for hit in inside.hits[0]
    ]
