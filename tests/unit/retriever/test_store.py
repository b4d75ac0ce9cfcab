"""The store: one transaction for everything, idempotent, growing, and honest about faults."""

import threading
import time
from pathlib import Path

import pytest
from memory3_retriever.bank.environment import DATA_FILE
from memory3_retriever.bank.ledger import NewReference
from memory3_retriever.bank.records import Reference

from memory3.errors import CorruptDataError, InvalidArgumentError, NotFoundError, StorageFullError
from tests.unit.retriever.banks import info_of, item_of, items, new_store, open_store


def test_what_is_put_is_there_after_a_restart(tmp_path: Path) -> None:
    """References, vectors, memories and description come back whole."""
    store = new_store(tmp_path / "bank")
    batch = items(20, "source")
    change = store.put(batch)
    assert (change.revision, len(change.added), change.removed) == (1, 20, ())
    store.close()
    again = open_store(tmp_path / "bank")
    keys = [item.reference.key for item in batch]
    assert again.info == info_of()
    assert {r.text for r in again.get(keys).values()} == {item.reference.text for item in batch}
    assert again.memories(keys) == {item.reference.key: item.envelope for item in batch}
    assert again.vectors(keys).tolist() == [item.vector.tolist() for item in batch]
    statistics = again.statistics()
    assert (statistics.num_references, statistics.num_memories, statistics.num_sources) == (
        20,
        20,
        1,
    )
    assert statistics.memory_bytes == sum(len(item.envelope or b"") for item in batch)
    again.close()


def test_putting_again_changes_nothing(tmp_path: Path) -> None:
    """The same content is stored once, and the revision only counts changes."""
    store = new_store(tmp_path / "bank")
    store.put(items(5))
    before = store.statistics()
    change = store.put(items(5))
    assert (change.revision, change.added) == (1, ())
    assert store.statistics() == before
    store.close()


def test_a_failing_put_leaves_no_trace(tmp_path: Path) -> None:
    """A batch with a vector that cannot be stored is refused whole."""
    store = new_store(tmp_path / "bank")
    store.put(items(2))
    before = store.statistics()
    bad = item_of("bad")
    bad.vector[0] = float("nan")
    with pytest.raises(InvalidArgumentError):
        store.put([*items(3, start=10), bad])
    assert store.statistics() == before
    store.close()


def test_replacing_a_source_removes_what_it_lost(tmp_path: Path) -> None:
    """Old references of the source go in the transaction in which the new ones come."""
    store = new_store(tmp_path / "bank")
    store.put([*items(4, "a"), *items(2, "b", start=10)])
    fresh = [*items(2, "a"), *items(1, "a", start=20)]
    change = store.put(fresh, {"a": {item.reference.key for item in fresh}})
    assert change.revision == 2
    assert len(change.added) == 1
    assert change.num_removed_by_source == {"a": 2}
    assert {r.text for r in store.page(b"", 100, "a")} == {
        "text number 0",
        "text number 1",
        "text number 20",
    }
    assert len(store.page(b"", 100, "b")) == 2
    store.close()


def test_deleting_by_id_and_by_source(tmp_path: Path) -> None:
    """Vector and memory go with the reference; missing ids are counted; sources are kept right."""
    store = new_store(tmp_path / "bank")
    a, b = items(3, "a"), items(2, "b", start=10)
    store.put([*a, *b])
    change, num_missing = store.delete([a[0].reference.key, bytes(16)], "b")
    assert (len(change.removed), num_missing) == (3, 1)
    statistics = store.statistics()
    assert (statistics.num_references, statistics.num_memories, statistics.num_sources) == (2, 2, 1)
    assert store.vector_keys() == {item.reference.key for item in a[1:]}
    change, num_missing = store.delete([a[0].reference.key])
    assert (change.revision, change.removed, num_missing) == (2, (), 1)
    store.close()


def test_a_memory_written_later_is_kept_once(tmp_path: Path) -> None:
    """Lazy memories join their references; those of deleted references are passed over."""
    store = new_store(tmp_path / "bank")
    late = items(2, memory=False)
    store.put(late)
    whole = items(2)
    envelopes = {item.reference.key: item.envelope or b"" for item in whole}
    assert store.put_memories({**envelopes, bytes(16): b"orphan"}) == 2
    assert store.put_memories(envelopes) == 2
    assert store.memories([*envelopes, bytes(16)]) == envelopes
    store.close()


def test_pages_go_through_all_references_in_order(tmp_path: Path) -> None:
    """Every reference is on exactly one page, by key."""
    store = new_store(tmp_path / "bank")
    batch = items(25)
    store.put(batch)
    seen: list[bytes] = []
    after = b""
    while page := store.page(after, 7):
        seen.extend(reference.key for reference in page)
        after = page[-1].key
    assert seen == sorted(item.reference.key for item in batch)
    store.close()


def test_the_map_grows_without_a_restart(tmp_path: Path) -> None:
    """Far more than the first map holds is written while readers go on reading."""
    store = new_store(tmp_path / "bank", map_bytes=1 << 18)
    failures: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                keys = [reference.key for reference in store.page(b"", 50)]
                memories = store.memories(keys)
                assert len(memories) == len(keys)
                time.sleep(0.002)
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(40):
        store.put([item_of(f"big {number} {n}", payload_bytes=20_000) for n in range(5)])
    done.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert store.statistics().num_references == 200
    assert (tmp_path / "bank" / DATA_FILE).stat().st_size > 4_000_000
    store.close()


def test_a_bank_at_its_limit_refuses_and_stays_whole(tmp_path: Path) -> None:
    """StorageFullError names the remedy; what was there is intact, and room can be made."""
    store = new_store(tmp_path / "bank", map_bytes=1 << 18, max_map_bytes=1 << 20)
    first = items(5)
    store.put(first)
    before = store.statistics()
    with pytest.raises(StorageFullError) as raised:
        store.put([item_of(f"big {n}", payload_bytes=100_000) for n in range(20)])
    assert "max_bank_bytes" in (raised.value.remedy or "")
    assert store.statistics() == before
    assert len(store.memories([item.reference.key for item in first])) == 5
    store.delete([first[0].reference.key])
    store.put(items(1, start=50))
    store.close()


def test_a_data_file_cut_short_is_refused(tmp_path: Path) -> None:
    """Opening it would kill the process at the first read past its end."""
    store = new_store(tmp_path / "bank")
    store.put(items(50))
    store.close()
    data = tmp_path / "bank" / DATA_FILE
    with data.open("r+b") as file:
        file.truncate(data.stat().st_size - 8192)
    with pytest.raises(CorruptDataError, match="cut short"):
        open_store(tmp_path / "bank")


def test_a_file_that_is_no_bank_is_refused(tmp_path: Path) -> None:
    """Garbage in place of the data file is a typed error."""
    folder = tmp_path / "bank"
    folder.mkdir()
    (folder / DATA_FILE).write_bytes(b"garbage" * 5000)
    with pytest.raises(CorruptDataError):
        open_store(folder)


def test_a_flipped_bit_in_a_record_names_the_reference(tmp_path: Path) -> None:
    """Damage on the disk is found when the record is read, and says whose it is."""
    store = new_store(tmp_path / "bank")
    victim = Reference("a very recognisable text")
    store.put([NewReference(victim, item_of("x").vector, None)])
    store.close()
    data = tmp_path / "bank" / DATA_FILE
    content = data.read_bytes()
    data.write_bytes(content.replace(b"recognisable", b"recognisablf"))
    store = open_store(tmp_path / "bank")
    with pytest.raises(CorruptDataError) as raised:
        store.get([victim.key])
    assert raised.value.metadata["resource"] == victim.id
    store.close()


def test_a_closed_bank_says_so(tmp_path: Path) -> None:
    """Whoever still holds a deleted bank gets an error, not a crash."""
    store = new_store(tmp_path / "bank")
    store.close()
    for call in (store.statistics, store.vector_keys, lambda: store.put(items(1))):
        with pytest.raises(NotFoundError):
            call()


def test_many_writers_and_readers(tmp_path: Path) -> None:
    """Concurrent puts and deletes neither fail nor lose count."""
    store = new_store(tmp_path / "bank")
    failures: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for number in range(20):
                batch = items(3, f"s{worker}", start=worker * 1000 + number * 3)
                store.put(batch)
                assert len(store.get([item.reference.key for item in batch])) == 3
                store.delete([batch[0].reference.key])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    statistics = store.statistics()
    assert (statistics.num_references, statistics.num_memories, statistics.num_sources) == (
        240,
        240,
        6,
    )
    assert statistics.revision == 240
    store.close()
