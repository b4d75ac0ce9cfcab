"""``async``: nothing acknowledged is lost by a kill, and a loss of power leaves a sound bank."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from memory3_retriever.bank import synced
from memory3_retriever.bank.environment import DATA_FILE
from memory3_retriever.bank.store import BankStore
from memory3_retriever.bank.synced import SYNCED_FILE
from memory3_retriever.bank.verify import verify_bank

from memory3.errors import CorruptDataError
from tests.unit.retriever.banks import item_of, items, new_store, open_store
from tests.waiting import eventually

PAGE = os.sysconf("SC_PAGE_SIZE")


def texts(store: BankStore) -> set[str]:
    """What is in a bank."""
    return {reference.text for reference in store.page(b"", 10_000)}


def async_store(path: Path, map_bytes: int = 1 << 20) -> BankStore:
    """A new bank whose commits are not synced one by one."""
    store = new_store(path, map_bytes=map_bytes)
    store.environment.set_durability("async")
    return store


@pytest.fixture
def no_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """Syncs come when they are asked for."""
    monkeypatch.setattr(synced, "SYNC_SECONDS", 3600.0)


def power_loss(image: bytes, later: bytes, random: Random) -> bytes:
    """What a disk may hold: the newest meta pages, and of later pages any or a part of them."""
    size = max(len(image), len(later))
    disk = bytearray(image.ljust(size, b"\0"))
    for start in range(0, size, PAGE):
        if start < 2 * PAGE or random.random() < 0.3:
            disk[start : start + PAGE] = later[start : start + PAGE]
    return bytes(disk)


@pytest.mark.usefixtures("no_background")
@pytest.mark.parametrize("seed", range(6))
def test_a_loss_of_power_leaves_the_last_synced_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Whatever later pages reached the disk, the bank is exactly what it was, and verifies."""
    random, path = Random(seed), tmp_path / "bank"
    store = async_store(path, 1 << 26)
    store.put(items(60, "a"))
    store.delete([item.reference.key for item in items(20, "a")])
    store.environment.sync()
    expected, statistics = texts(store), store.statistics()
    synced_image = (path / DATA_FILE).read_bytes()
    kept = (path / SYNCED_FILE).read_bytes()
    for number in range(random.randint(3, 12)):
        store.put(items(random.randint(1, 40), "b", start=100 * number))
        store.delete([], "a" if number == 2 else "")
    later = (path / DATA_FILE).read_bytes()
    assert (path / SYNCED_FILE).read_bytes() == kept
    lost = tmp_path / "lost"
    lost.mkdir()
    (lost / DATA_FILE).write_bytes(power_loss(synced_image, later, random))
    (lost / SYNCED_FILE).write_bytes(kept)
    store.close()
    monkeypatch.setattr(synced, "boot_id", lambda: "another start of the system")
    again = open_store(lost)
    assert (texts(again), again.statistics()) == (expected, statistics)
    assert verify_bank(again).problems == []
    assert not (lost / SYNCED_FILE).exists()
    again.put(items(30, "c", start=5000))
    assert verify_bank(again).problems == []
    again.close()


@pytest.mark.usefixtures("no_background")
def test_the_last_synced_state_outlives_a_growing_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Growing lets the state that is held go, so it makes the present one the last synced."""
    path = tmp_path / "bank"
    store = async_store(path)
    for number in range(8):
        store.put([item_of(f"large {number}", payload_bytes=300_000)])
    lost = tmp_path / "lost"
    shutil.copytree(path, lost)
    store.put(items(50))
    later = (path / DATA_FILE).read_bytes()
    assert (path / SYNCED_FILE).read_bytes() == (lost / SYNCED_FILE).read_bytes()
    (lost / DATA_FILE).write_bytes(power_loss((lost / DATA_FILE).read_bytes(), later, Random(1)))
    store.close()
    monkeypatch.setattr(synced, "boot_id", lambda: "another start of the system")
    again = open_store(lost)
    assert texts(again) <= {f"large {number}" for number in range(8)}
    assert len(texts(again)) >= 3
    assert verify_bank(again).problems == []
    again.close()


def test_closing_makes_everything_durable(tmp_path: Path) -> None:
    """After closing nothing is kept beside the data, and nothing is gone."""
    store = async_store(tmp_path / "bank")
    store.put(items(10))
    assert (tmp_path / "bank" / SYNCED_FILE).exists()
    store.close()
    assert not (tmp_path / "bank" / SYNCED_FILE).exists()
    again = open_store(tmp_path / "bank")
    assert len(texts(again)) == 10
    again.close()


def test_commits_are_synced_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was committed is the last synced state after a while, without anybody's help."""
    monkeypatch.setattr(synced, "SYNC_SECONDS", 0.02)
    store = async_store(tmp_path / "bank")
    before = (tmp_path / "bank" / SYNCED_FILE).read_bytes()
    store.put(items(10))
    eventually(lambda: (tmp_path / "bank" / SYNCED_FILE).read_bytes() != before)
    store.close()


def test_durability_changes_while_the_bank_is_open(tmp_path: Path) -> None:
    """To and fro; everything stays, and so does what is held of the files."""
    store = new_store(tmp_path / "bank")
    for number, durability in enumerate(("async", "fsync", "fsync", "async", "fsync")):
        store.put([item_of(f"before {number}")])
        store.environment.set_durability(durability)  # type: ignore[arg-type]
        store.put([item_of(f"after {number}")])
    assert len(texts(store)) == 10
    assert not (tmp_path / "bank" / SYNCED_FILE).exists()
    store.close()


def test_a_damaged_way_back_is_told(tmp_path: Path) -> None:
    """A bank of which it is not known what is whole is not opened."""
    store = async_store(tmp_path / "bank")
    store.put(items(5))
    kept = bytearray((tmp_path / "bank" / SYNCED_FILE).read_bytes())
    shutil.copytree(tmp_path / "bank", tmp_path / "copy")
    store.close()
    kept[100] ^= 1
    (tmp_path / "copy" / SYNCED_FILE).write_bytes(kept)
    with pytest.raises(CorruptDataError):
        open_store(tmp_path / "copy")


def test_a_kill_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """A process is killed while it writes: all that it had said to be there is there."""
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.unit.retriever.banks import item_of, new_store\n"
        "store = new_store(Path(sys.argv[1]))\n"
        "store.environment.set_durability('async')\n"
        "for number in range(10**9):\n"
        "    store.put([item_of(f'text {number}')])\n"
        "    print(number, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "bank")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 150:
            break
    process.send_signal(signal.SIGKILL)
    acknowledged = [int(line), *map(int, process.stdout.read().split())]
    process.stdout.close()
    process.wait()
    store = open_store(tmp_path / "bank")
    assert texts(store) >= {f"text {number}" for number in range(acknowledged[-1] + 1)}
    assert verify_bank(store).problems == []
    store.close()
