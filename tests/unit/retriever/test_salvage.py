"""Mending banks that are refused when they are opened: real files, damaged in every such way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from memory3_retriever.bank.catalog import Catalog, NewBank
from memory3_retriever.bank.environment import DATA_FILE
from memory3_retriever.bank.ledger import (
    COUNTERS_KEY,
    ERASING_KEY,
    INFO_KEY,
    META,
    REFERENCES,
    VECTORS,
)
from memory3_retriever.bank.raw_records import RawRecords
from memory3_retriever.bank.records import EmbedderIdentity, seal
from memory3_retriever.bank.store import BankStore
from memory3_retriever.bank.synced import SYNCED_FILE
from memory3_retriever.operations.repair import RepairReport
from memory3_retriever.operations.salvage import salvage

from memory3.errors import CorruptDataError
from tests.unit.retriever.banks import DIGEST, item_of, items
from tests.unit.retriever.encoder_double import DIMENSIONS

NUMBER = 40


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one bank, of which nothing is damaged."""
    folder = tmp_path_factory.mktemp("sound")
    catalog = opened(folder)
    embedder = EmbedderIdentity("lexical", "e" * 64, DIMENSIONS)
    bank = catalog.create(NewBank("docs", embedder, "exact", "raw", "eager"))
    bank.put(items(NUMBER, "a.md"))
    catalog.close()
    return folder


def opened(folder: Path) -> Catalog:
    """All banks of a folder, those that are refused among them."""
    catalog = Catalog(folder, DIGEST, map_bytes=1 << 20, max_bank_bytes=1 << 30)
    catalog.open_all()
    return catalog


def damaged(sound: Path, folder: Path, harm: Callable[[bytearray], None]) -> Catalog:
    """A copy whose data file was changed, opened."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    path = folder / "banks" / "docs" / DATA_FILE
    data = bytearray(path.read_bytes())
    harm(data)
    path.write_bytes(data)
    return opened(folder)


def change_records(sound: Path, folder: Path, change: Callable[[object, dict], None]) -> Catalog:
    """A copy whose records were changed by a transaction of LMDB's own, opened."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    store = BankStore(folder / "banks" / "docs", "docs", map_bytes=0, max_map_bytes=1 << 30)
    db = store.environment.databases
    store.environment.write(lambda txn: change(txn, db))
    store.close()
    return opened(folder)


def key_places(data: bytes, key: bytes) -> Iterator[int]:
    """Where in a file a key of a record stands, in pages that are in use and others."""
    at = data.find(key)
    while at >= 0:
        if int.from_bytes(data[at - 2 : at], "little") == len(key):
            yield at
        at = data.find(key, at + 1)


def mended(catalog: Catalog) -> RepairReport:
    """What repairing says, which a dry run said before, and after which all is well."""
    with pytest.raises(CorruptDataError):
        catalog.get("docs")
    told = salvage(catalog, "docs", dry_run=True)
    with pytest.raises(CorruptDataError):
        catalog.get("docs")
    report = salvage(catalog, "docs", dry_run=False)
    assert report.repairs == told.repairs
    assert (told.index_rebuilt, report.index_rebuilt) == (False, True)
    bank = catalog.get("docs")
    wrong = [each for each in bank.verify().problems if each.reason != "MEMORY_MISSING"]
    assert wrong == []
    assert not catalog.damaged("docs")
    return report


@pytest.mark.parametrize("bit", [0, 127], ids=["order kept", "order broken"])
def test_a_damaged_key_is_put_right_and_nothing_else_is_lost(
    sound: Path, tmp_path: Path, bit: int
) -> None:
    """Of a reference, its vector or its memory; also where the keys are out of order by it."""
    key = sorted(item.reference.key for item in items(NUMBER, "a.md"))[NUMBER // 2]
    data = (sound / "banks" / "docs" / DATA_FILE).read_bytes()
    refused: list[set[str]] = []
    for place in key_places(data, key):

        def flip(data: bytearray, at: int = place) -> None:
            data[at + 15 - bit // 8] ^= 1 << bit % 8

        catalog = damaged(sound, tmp_path / "work", flip)
        if catalog.damaged("docs"):
            report = mended(catalog)
            assert report.num_references_removed == 0
            refused.append({each.reason for each in report.repairs})
        bank = catalog.get("docs")
        assert {each.text for each in bank.store.page(b"", 1000)} == {
            f"text number {n}" for n in range(NUMBER)
        }
        catalog.close()
    assert {"REFERENCE_KEY"} in refused
    assert {"MEMORY_ORPHAN"} in refused
    assert set() in refused  # a vector, which is found again by its checksum


def test_what_cannot_be_read_is_named_and_the_rest_stays(sound: Path, tmp_path: Path) -> None:
    """A text without a vector, a vector without a text, and a text that is damaged."""
    first, second, third = (item.reference.key for item in items(3, "a.md"))
    note = seal(ERASING_KEY, bytes(16))

    def change(txn: object, db: dict) -> None:
        txn.put(ERASING_KEY, note, db=db[META])
        txn.delete(first, db=db[VECTORS])
        txn.delete(second, db=db[REFERENCES])
        value = bytearray(txn.get(third, db=db[REFERENCES]))
        value[-1] ^= 1
        txn.put(third, bytes(value), db=db[REFERENCES])

    catalog = change_records(sound, tmp_path / "work", change)
    report = mended(catalog)
    assert {each.reference_id: each.reason for each in report.repairs} == {
        first.hex(): "VECTOR_MISSING",
        second.hex(): "VECTOR_ORPHAN",
        third.hex(): "REFERENCE_CHECKSUM",
    }
    assert (report.num_checked, report.num_references_removed) == (NUMBER - 1, 3)
    bank = catalog.get("docs")
    assert bank.store.statistics().num_references == NUMBER - 3
    assert bank.store.being_erased() == {bytes(16)}
    bank.put([item_of("added afterwards")])
    catalog.close()
    catalog = opened(tmp_path / "work")
    assert catalog.get("docs").store.statistics().num_references == NUMBER - 2
    catalog.close()


def test_a_lost_revision_makes_another_bank_of_the_name(sound: Path, tmp_path: Path) -> None:
    """So that no cache and no reader takes a revision for an earlier one of that number."""

    def change(txn: object, db: dict) -> None:
        txn.put(COUNTERS_KEY, b"none", db=db[META])

    before = opened(sound)
    uid = before.get("docs").info.uid
    before.close()
    catalog = change_records(sound, tmp_path / "work", change)
    report = mended(catalog)
    assert [each.reason for each in report.repairs] == ["COUNT"]
    bank = catalog.get("docs")
    assert (bank.store.counters().revision, bank.store.statistics().num_references) == (1, NUMBER)
    assert bank.info.uid != uid
    catalog.close()


def test_what_cannot_be_mended_says_so_and_stays_as_it_is(sound: Path, tmp_path: Path) -> None:
    """A bank without its description, pages that are cut off, a header that is none."""

    def describe_nothing(txn: object, db: dict) -> None:
        txn.put(INFO_KEY, b"none", db=db[META])

    def cut(data: bytearray) -> None:
        del data[len(data) // 2 :]

    def break_header(data: bytearray) -> None:
        data[16] ^= 1

    for catalog in (
        change_records(sound, tmp_path / "work", describe_nothing),
        damaged(sound, tmp_path / "work", cut),
        damaged(sound, tmp_path / "work", break_header),
    ):
        file = tmp_path / "work" / "banks" / "docs" / DATA_FILE
        before = file.read_bytes()
        with pytest.raises(CorruptDataError) as raised:
            salvage(catalog, "docs", dry_run=False)
        assert "restore a snapshot" in (raised.value.remedy or "")
        assert file.read_bytes() == before
        catalog.close()


def test_a_damaged_way_back_is_no_loss_where_all_pages_agree(sound: Path, tmp_path: Path) -> None:
    """The file beside the data of an asynchronous bank is damaged, the data are not."""
    shutil.copytree(sound, tmp_path / "work")
    (tmp_path / "work" / "banks" / "docs" / SYNCED_FILE).write_bytes(b"damaged")
    catalog = opened(tmp_path / "work")
    assert mended(catalog).repairs == []
    assert catalog.get("docs").store.statistics().num_references == NUMBER
    assert not os.path.exists(tmp_path / "work" / "banks" / "docs" / SYNCED_FILE)
    catalog.close()


def test_a_bank_that_is_whole_is_not_taken_for_damaged(sound: Path) -> None:
    """Nor is one that is not there; and every record is read without LMDB as with it."""
    catalog = opened(sound)
    assert not catalog.damaged("docs")
    assert not catalog.damaged("nobody")
    store = catalog.get("docs").store
    with store.environment.read() as txn:
        expected = {
            name: list(txn.cursor(store.environment.databases[name]))
            for name in (META, REFERENCES, VECTORS, b"memories")
        }
    catalog.close()
    raw = RawRecords(sound / "banks" / "docs" / DATA_FILE)
    assert {name: list(raw.records(name)) for name in expected} == expected
    raw.close()
