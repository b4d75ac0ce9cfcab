"""Group commit: writers that wait share a commit, and none of them pays for another's fault."""

import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.store import BankStore

from memory3.errors import InvalidArgumentError, QuotaExceededError, StorageFullError
from tests.unit.retriever.banks import item_of, new_store, open_store
from tests.waiting import eventually

NUM_WRITERS = 16


def together(store: BankStore, *works: Callable[[], object]) -> list[object]:
    """Run writes so that all of them wait at the same time; what each returned or raised."""
    outcomes: list[object] = [None] * len(works)

    def run(place: int) -> None:
        try:
            outcomes[place] = works[place]()
        except Exception as error:
            outcomes[place] = error

    threads = [threading.Thread(target=run, args=[place]) for place in range(len(works))]
    with store.environment.paused():
        for place, thread in enumerate(threads):
            thread.start()
            eventually(lambda: store.environment.queue.num_waiting == place + 2)  # noqa: B023
    for thread in threads:
        thread.join()
    return outcomes


def test_writers_that_wait_share_one_commit(tmp_path: Path) -> None:
    """Sixteen small additions take one sync, each is durable and has a revision of its own."""
    store = new_store(tmp_path / "bank")
    queue = store.environment.queue
    before = queue.num_commits
    items = [item_of(f"text {n}") for n in range(NUM_WRITERS)]
    told: list[int] = []
    changes = together(
        store,
        *(
            lambda item=item: store.put([item], then=lambda c: told.append(c.revision))
            for item in items
        ),
    )
    assert queue.num_commits - before == 1
    assert [change.revision for change in changes] == list(range(1, NUM_WRITERS + 1))
    assert told == list(range(1, NUM_WRITERS + 1))
    assert [change.added for change in changes] == [(item.reference.key,) for item in items]
    store.close()
    again = open_store(tmp_path / "bank")
    assert again.existing(i.reference.key for i in items) == {i.reference.key for i in items}
    again.close()


def test_many_writers_cost_far_fewer_syncs_than_writes(tmp_path: Path) -> None:
    """Without any help: eight threads that write one after the other meet in the queue."""
    store = new_store(tmp_path / "bank")
    queue = store.environment.queue
    before = queue.num_commits

    def write(writer: int) -> None:
        for number in range(25):
            store.put([item_of(f"{writer} {number}")])

    threads = [threading.Thread(target=write, args=[writer]) for writer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queue.num_changes >= 200
    assert queue.num_commits - before <= 100
    assert store.statistics().num_references == 200
    assert store.counters().revision == 200
    store.close()


def test_a_failing_change_fails_alone(tmp_path: Path) -> None:
    """In the middle of a group: the others are durable, what it had begun is not there."""
    store = new_store(tmp_path / "bank")
    bad = item_of("bad")
    bad.vector[0] = float("nan")
    good = [item_of(f"good {n}") for n in range(4)]
    halfway = item_of("halfway")
    outcomes = together(
        store,
        lambda: store.put([good[0]]),
        lambda: store.put([halfway, bad]),
        lambda: store.put([good[1]]),
        lambda: store.put([bad]),
        lambda: store.put(good[2:]),
    )
    assert [type(each) for each in (outcomes[1], outcomes[3])] == [InvalidArgumentError] * 2
    assert {r.text for r in store.page(b"", 10)} == {f"good {n}" for n in range(4)}
    assert store.counters().revision == 3
    store.close()


def test_what_does_not_fit_does_not_keep_others_out(tmp_path: Path) -> None:
    """A bank that cannot grow takes those of a group that still fit."""
    store = new_store(tmp_path / "bank", map_bytes=1 << 20, max_map_bytes=1 << 20)
    outcomes = together(
        store,
        lambda: store.put([item_of("small")]),
        lambda: store.put([item_of("huge", payload_bytes=4 << 20)]),
        lambda: store.put([item_of("little")]),
    )
    assert isinstance(outcomes[1], StorageFullError)
    assert {r.text for r in store.page(b"", 10)} == {"small", "little"}
    store.close()


def test_a_quota_refuses_whole_additions_only(tmp_path: Path) -> None:
    """What would pass it changes nothing and says by how much; deleting makes room again."""
    store = new_store(tmp_path / "bank", quota_bytes=6000)
    first, second, third = (item_of(f"text {n}", payload_bytes=2048) for n in range(3))
    store.put([first])
    before = store.statistics()
    with pytest.raises(QuotaExceededError) as raised:
        store.put([second, third])
    assert store.statistics() == before
    facts = raised.value.metadata
    assert (facts["used"], facts["quota"]) == (str(before.used_bytes), "6000")
    assert int(facts["needed"]) > 6000
    store.put([second])
    with pytest.raises(QuotaExceededError):
        store.put([third])
    store.delete([first.reference.key])
    store.put([third])
    assert {r.text for r in store.page(b"", 10)} == {"text 1", "text 2"}
    store.delete([second.reference.key, third.reference.key])
    assert store.statistics().used_bytes == 0
    store.close()


def test_a_memory_above_the_quota_is_not_kept(tmp_path: Path) -> None:
    """Memories that are written late count as additions do."""
    store = new_store(tmp_path / "bank", quota_bytes=1000)
    item = item_of("text", memory=False)
    store.put([item])
    with pytest.raises(QuotaExceededError):
        store.put_memories({item.reference.key: bytes(2000)})
    assert store.with_memory([item.reference.key]) == set()
    store.close()


@pytest.mark.parametrize("index", ["exact", "hnsw:delta=16"])
def test_the_index_follows_in_the_order_of_commits(tmp_path: Path, index: str) -> None:
    """Eight threads add and delete the same references; in the end index and store agree."""
    bank = LiveBank(new_store(tmp_path / "bank", index=index), tmp_path / "bank")
    items = [item_of(f"text {n}") for n in range(12)]

    def work(seed: int) -> None:
        random = Random(seed)
        for _ in range(30):
            item = random.choice(items)
            if random.random() < 0.5:
                bank.put([item], overwrite=random.random() < 0.3)
                continue
            bank.delete([item.reference.key])

    threads = [threading.Thread(target=work, args=[seed]) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bank.verify().problems == []
    (hits,) = bank.search(items[0].vector[None], 50)[1]
    assert {hit.key for hit in hits} == bank.store.vector_keys()
    bank.close()
