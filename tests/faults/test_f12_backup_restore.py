"""F12: a bank that is written to is backed up and restored; the copy is what the bank was."""

from __future__ import annotations

import hashlib
import random
import shutil
import tempfile
import threading
from pathlib import Path

import pytest
from memory3_retriever.bank.catalog import Catalog, NewBank
from memory3_retriever.bank.records import EmbedderIdentity
from memory3_retriever.bank.store import BankStore

from memory3.errors import CheckpointMismatchError
from tests.faults.campaign import Campaign
from tests.unit.retriever.banks import DIGEST, item_of
from tests.unit.retriever.encoder_double import DIMENSIONS

_EMBEDDER = EmbedderIdentity("lexical", "e" * 64, DIMENSIONS)


def _open(folder: Path, digest: str = DIGEST) -> Catalog:
    catalog = Catalog(folder, digest, map_bytes=1 << 20, max_bank_bytes=1 << 30)
    catalog.open_all()
    return catalog


def _content(store: BankStore) -> str:
    """The hash of everything that callers see: references, vectors and memories."""
    digest, databases = hashlib.sha256(), (b"references", b"vectors", b"memories", b"sources")
    with store.environment.read() as txn:
        for name in databases:
            with txn.cursor(store.environment.databases[name]) as cursor:
                for key, value in cursor:
                    digest.update(len(key).to_bytes(8, "big") + key)
                    digest.update(len(value).to_bytes(8, "big") + value)
    return digest.hexdigest()


def _case(seed: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="f12-"))
    try:
        _backup_and_restore(folder, random.Random(seed))
    finally:
        shutil.rmtree(folder)


def _backup_and_restore(folder: Path, rng: random.Random) -> None:
    catalog = _open(folder)
    bank = catalog.create(NewBank("docs", _EMBEDDER, "exact", "raw", "eager"))
    contents: dict[int, str] = {}
    started = threading.Event()

    def write() -> None:
        keys: list[bytes] = []
        for number in range(rng.randint(20, 60)):
            if keys and rng.random() < 0.3:
                change, _ = bank.delete([keys.pop(rng.randrange(len(keys)))])
            else:
                batch = [
                    item_of(f"text {number} {n}", f"s{rng.randint(0, 3)}", payload_bytes=2000)
                    for n in range(rng.randint(1, 20))
                ]
                change = bank.put(batch)
                keys.extend(change.added)
            # The only writer: nobody changes the bank between its change and this reading.
            contents[change.revision] = _content(bank.store)
            if number == 3:
                started.set()

    writer = threading.Thread(target=write)
    writer.start()
    started.wait()
    snapshots = [catalog.snapshot("docs", f"s{n}") for n in range(rng.randint(1, 3))]
    writer.join()
    for snapshot in snapshots:
        restored = catalog.restore(snapshot.id, f"copy-{snapshot.id}")
        assert _content(restored.store) == contents[snapshot.revision]
        assert not restored.verify().problems
    catalog.close()
    foreign = _open(folder, "f" * 64)
    with pytest.raises(CheckpointMismatchError):
        foreign.restore(snapshots[0].id, "foreign")
    assert "foreign" not in foreign.names()
    foreign.close()


def test_f12_a_backup_restores_what_the_bank_was(campaign: Campaign) -> None:
    """The content's hash is that at the snapshot's revision; another checkpoint is refused."""
    campaign.run("F12", _case, full=20, short=2)
