"""A7: names and links that lead out of the data folder are refused, and nothing is touched."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from memory3_retriever.bank.catalog import Catalog, NewBank
from memory3_retriever.bank.names import bank_id, snapshot_id
from memory3_retriever.bank.records import EmbedderIdentity
from memory3_retriever.bank.snapshot import check_snapshot, fetch

from memory3.errors import CorruptDataError, InvalidArgumentError, Memory3Error, NotFoundError
from tests.faults.campaign import Campaign
from tests.unit.retriever.banks import DIGEST, items
from tests.unit.retriever.encoder_double import DIMENSIONS

_NAMES = (
    *("../evil", "..", ".", "", "/etc/passwd", "a/../../b", "a/b", "a\\b", "a\x00b", "\x00"),
    *(".tmp-1", ".hidden", "lock", "~root", "%2e%2e", "a%2fb", "A", "é", "a\n", " a", "a "),
    *("c:\\evil", "file:///etc", "-a", "a" * 64, "a." * 3, "\u2025/evil", "\uff0e\uff0e"),
)
# A bank's id is a snapshot's as well, so this one is no attack.
_FINE = {"lock"}
_EMBEDDER = EmbedderIdentity("lexical", "e" * 64, DIMENSIONS)


class _Place:
    """A data folder with a bank and a snapshot, and a secret beside it."""

    def __init__(self, folder: Path) -> None:
        self.secret = folder / "outside"
        self.secret.mkdir()
        (self.secret / "data.mdb").write_bytes(b"secret")
        self.data = folder / "data"
        self.catalog = Catalog(self.data, DIGEST, map_bytes=1 << 20, max_bank_bytes=1 << 30)
        bank = self.catalog.create(NewBank("docs", _EMBEDDER, "exact", "raw", "eager"))
        bank.put(items(3))
        self.snapshot = self.catalog.snapshot("docs", "first")

    def link(self, at: Path, to: Path) -> None:
        """Put a link in place of what is there."""
        shutil.rmtree(at) if at.is_dir() else at.unlink()
        at.symlink_to(to)

    def require_refused(self, call: Callable[[], object], *kinds: type[Memory3Error]) -> None:
        """The call fails as it must, and what is outside is as it was."""
        with pytest.raises(kinds):
            call()
        assert [path.name for path in self.secret.iterdir()] == ["data.mdb"]
        assert (self.secret / "data.mdb").read_bytes() == b"secret"


def _linked_snapshot(place: _Place, what: str) -> None:
    folder = place.data / "snapshots" / "first"
    manifest, snapshots = place.snapshot, place.catalog.snapshots
    if what == "folder":
        place.link(folder, place.secret)
        place.require_refused(lambda: snapshots.manifest("first"), NotFoundError)
        place.require_refused(lambda: place.catalog.restore("first", "copy"), NotFoundError)
        assert not snapshots.delete("first")
        assert snapshots.ids() == []
    elif what == "data":
        place.link(folder / "data.mdb", place.secret / "data.mdb")
        target = place.data / "target"
        place.require_refused(lambda: fetch(snapshots, manifest, target), CorruptDataError)
        place.require_refused(lambda: place.catalog.restore("first", "copy"), CorruptDataError)
        assert check_snapshot(snapshots, manifest)
    else:
        place.link(folder / "manifest.json", place.secret / "data.mdb")
        place.require_refused(lambda: snapshots.manifest("first"), CorruptDataError)
    place.require_refused(lambda: place.catalog.get("copy"), NotFoundError)


def _linked_bank(place: _Place) -> None:
    place.catalog.delete("docs")
    (place.data / "banks" / "linked").symlink_to(place.secret)
    place.catalog.open_all()
    assert place.catalog.names() == []
    assert not place.catalog.delete("linked")
    place.require_refused(lambda: place.catalog.restore("first", "linked"), Memory3Error)


def _names(place: _Place, name: str) -> None:
    given = name if name in _FINE else f"banks/{name}"
    place.require_refused(lambda: bank_id(given, "name"), InvalidArgumentError)
    if name not in _FINE:
        place.require_refused(lambda: snapshot_id(name, "snapshot"), InvalidArgumentError)


def _case(seed: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="a7-"))
    place = _Place(folder)
    attacks: list[Callable[[], None]] = [
        *(lambda what=what: _linked_snapshot(place, what) for what in ("folder", "data", "json")),
        lambda: _linked_bank(place),
        *(lambda name=name: _names(place, name) for name in _NAMES),
    ]
    try:
        attacks[seed % len(attacks)]()
    finally:
        place.catalog.close()
        shutil.rmtree(folder)


def test_a7_no_name_or_link_leads_out(campaign: Campaign) -> None:
    """Names are refused before anything is opened, links are never followed."""
    campaign.run("A7", _case, full=60, short=8)
