"""F13: whatever was damaged in a bank's file, mending it names all that is lost, or refuses."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from random import Random

from memory3_retriever.bank.catalog import Catalog, NewBank
from memory3_retriever.bank.environment import DATA_FILE
from memory3_retriever.bank.records import EmbedderIdentity
from memory3_retriever.operations.repair import repair
from memory3_retriever.operations.salvage import salvage

from memory3.errors import CorruptDataError
from tests.faults.campaign import Campaign
from tests.unit.retriever.banks import DIGEST, item_of
from tests.unit.retriever.encoder_double import DIMENSIONS, envelope_of

_PAGE = 4096


def _opened(folder: Path) -> Catalog:
    catalog = Catalog(folder, DIGEST, map_bytes=1 << 20, max_bank_bytes=1 << 30)
    catalog.open_all()
    return catalog


def _make(folder: Path) -> dict[str, str]:
    """A bank after additions and deletions, some memories longer than a page; what is in it."""
    catalog = _opened(folder)
    embedder = EmbedderIdentity("lexical", "e" * 64, DIMENSIONS)
    bank = catalog.create(NewBank("docs", embedder, "exact", "raw", "eager"))
    for start in range(0, 200, 20):
        bank.put([
            item_of(f"text {n}" + " x" * (n % 5) * 90, f"s{n % 5}", payload_bytes=_payload(n))
            for n in range(start, start + 20)
        ])  # fmt: skip
    bank.delete(sorted(bank.store.vector_keys())[::7])
    contents = {each.id: each.text for each in bank.store.page(b"", 1000)}
    catalog.close()
    return contents


def _payload(number: int) -> int:
    return 9000 if number % 9 == 0 else 0


def _harm(path: Path, rng: Random, ids: list[str]) -> None:
    """Flip a bit: of a record's head or key, of a page's head, or anywhere."""
    data = bytearray(path.read_bytes())
    place, kind = rng.randrange(len(data)), rng.random()
    if kind < 0.6:
        key = bytes.fromhex(rng.choice(ids))
        found = [match.start() for match in re.finditer(re.escape(key), data)]
        place = rng.choice(found) + rng.randrange(-8, 24)
    elif kind < 0.8:
        place = min(len(data) - 1, place // _PAGE * _PAGE + rng.randrange(200))
    data[place] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def test_mending_loses_nothing_in_silence(tmp_path: Path, campaign: Campaign) -> None:
    """What is there afterwards is as it was; what is not is named; what cannot be read stays."""
    sound = tmp_path / "sound"
    expected = _make(sound)
    mended = 0

    def case(seed: int) -> None:
        nonlocal mended
        work = tmp_path / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(sound, work)
        path = work / "banks" / "docs" / DATA_FILE
        _harm(path, Random(seed), sorted(expected))
        catalog = _opened(work)
        try:
            if catalog.damaged("docs"):
                before = path.read_bytes()
                try:
                    report = salvage(catalog, "docs", dry_run=False)
                except CorruptDataError:
                    assert path.read_bytes() == before
                    return
                mended += 1
            else:
                report = repair(catalog.get("docs"), dry_run=False)
            bank = catalog.get("docs")
            found = {each.id: each.text for each in bank.store.page(b"", 1000)}
            assert found.items() <= expected.items()
            named = {each.reference_id for each in report.repairs}
            assert expected.keys() - found.keys() <= named
            wrong = {each.reason for each in bank.verify().problems}
            assert wrong <= {"MEMORY_MISSING"}
            keys = [bytes.fromhex(each) for each in found]
            for key, envelope in bank.store.memories(keys).items():
                number = int(found[key.hex()].split()[1])
                assert envelope == envelope_of(found[key.hex()], DIGEST, _payload(number))
        finally:
            catalog.close()

    campaign.run("F13", case, full=1000, short=40)
    assert mended > 0, "nothing was ever mended"
