"""Neighbours of chunks: near, fair, bound to their data, and the same after a kill."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from memory3_trainer.data.neighbours import (
    NONE,
    NeighbourFacts,
    Neighbours,
    NeighbourSettings,
    find_neighbours,
)
from memory3_trainer.data.packing import PackedText, pack_texts
from memory3_trainer.data.reference_store import ReferenceStore
from memory3_trainer.tokenizer import train_tokenizer
from tokenizers import Tokenizer

from memory3.data.documents import Document
from memory3.data.overlap import OverlapFilter
from memory3.embedders.lexical import LexicalEmbedder
from memory3.errors import CheckpointMismatchError, CorruptDataError, InvalidArgumentError

EXACT = NeighbourSettings(index="exact", candidates=4, chunk_length=16)


class _World:
    """Everything that neighbours are found from."""

    def __init__(
        self,
        pack: PackedText,
        store: ReferenceStore,
        tokenizer: Tokenizer,
        embedder: LexicalEmbedder,
    ) -> None:
        self.pack, self.store, self.tokenizer, self.embedder = pack, store, tokenizer, embedder

    def find(self, out: Path, settings: NeighbourSettings = EXACT) -> Neighbours:
        find_neighbours(self.pack, self.store, self.tokenizer, self.embedder, out, settings)
        return Neighbours.open(out, self.pack, self.store)


@pytest.fixture(scope="module")
def world(
    pack: PackedText, store: ReferenceStore, tokenizer: Tokenizer, embedder: LexicalEmbedder
) -> _World:
    """The made-up documents."""
    return _World(pack, store, tokenizer, embedder)


@pytest.fixture(scope="module")
def found(world: _World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Neighbours of the made-up documents."""
    out = tmp_path_factory.mktemp("found") / "n"
    world.find(out)
    return out


def _open(world: _World, path: Path) -> Neighbours:
    return Neighbours.open(path, world.pack, world.store)


def _chunk(world: _World, chunk: int) -> list[int]:
    return world.pack.tokens(chunk * 16, chunk * 16 + 16).tolist()


def test_without_the_filter_the_nearest_is_found(world: _World, tmp_path: Path) -> None:
    """With a threshold that nothing exceeds, each chunk gets the first hit of the index."""
    found = world.find(tmp_path / "n", dataclasses.replace(EXACT, threshold=Fraction(1)))
    vectors = world.embedder.embed(
        [world.store.search_text(number) for number in range(len(world.store))], "reference"
    )
    for chunk in range(0, len(found.rows), 37):
        text = world.tokenizer.decode(_chunk(world, chunk), skip_special_tokens=True)
        scores = world.embedder.embed([text], "query")[0] @ vectors.T
        if "</s>" not in world.tokenizer.decode(_chunk(world, chunk), skip_special_tokens=False):
            assert scores[found.rows[chunk]] == pytest.approx(scores.max(), abs=1e-6)


def test_no_neighbour_says_what_the_text_says(world: _World, found: Path) -> None:
    """Though every chunk's own text is among the references, none reads it."""
    opened = _open(world, found)
    assert opened.facts.num_dropped > 0
    assert opened.facts.num_found > len(opened.rows) // 2
    for chunk in np.flatnonzero(opened.rows != NONE):
        reference = world.store.tokens(opened.rows[chunk]).tolist()
        read_by = world.pack.tokens(chunk * 16 - 32, chunk * 16 + 5 * 16 + 32).tolist()
        assert not OverlapFilter(reference, EXACT.threshold).exceeds(read_by)


def test_the_own_document_can_be_excluded(world: _World, tmp_path: Path) -> None:
    """No neighbour comes from a document that the chunk stands in."""
    found = world.find(tmp_path / "n", dataclasses.replace(EXACT, exclude_same_document=True))
    with_one = np.flatnonzero(found.rows != NONE)
    assert len(with_one) > 0
    for chunk in with_one:
        own = world.pack.documents(chunk * 16, chunk * 16 + 16).tolist()
        assert world.store.document(found.rows[chunk]) not in own


def test_a_chunk_that_finds_nothing_fair_has_none(world: _World, tmp_path: Path) -> None:
    """Where all candidates copy the text, there is no reference."""
    found = world.find(
        tmp_path / "n", dataclasses.replace(EXACT, candidates=1, threshold=Fraction(1, 100))
    )
    assert (found.rows == NONE).mean() > 0.9


_PROCESS = """
import sys, time
from pathlib import Path
from tokenizers import Tokenizer
from memory3.embedders.lexical import LexicalEmbedder
from memory3_trainer.data.neighbours import NeighbourSettings, find_neighbours
from memory3_trainer.data.packing import PackedText
from memory3_trainer.data.reference_store import ReferenceStore
pack, store, tokenizer, embedder, out, pause = sys.argv[1:]
find_neighbours(
    PackedText.open(Path(pack)), ReferenceStore.open(Path(store)), Tokenizer.from_file(tokenizer),
    LexicalEmbedder.from_checkpoint(Path(embedder), None), Path(out),
    NeighbourSettings(index="hnsw:delta=16", candidates=4, chunk_length=16), piece=64,
    progress=lambda what, done, total: time.sleep(float(pause) if what == "chunks" else 0),
)
"""


def _command(world: _World, embedder_dir: Path, folder: Path, pause: float) -> list[str]:
    words = folder / "tokenizer.json"
    world.tokenizer.save(str(words))
    places = [world.pack.path, world.store.path, words, embedder_dir, folder / "n"]
    return [sys.executable, "-c", _PROCESS, *map(str, places), str(pause)]


def test_a_killed_pass_goes_on_to_the_same_bytes(
    world: _World, embedder_dir: Path, tmp_path: Path
) -> None:
    """SIGKILL in the middle of the pieces, run again: as if it had never been killed."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    subprocess.run(_command(world, embedder_dir, whole, 0), check=True)
    killed = subprocess.Popen(_command(world, embedder_dir, cut, 0.2))
    while len(list(cut.glob(".n-*/[0-9]*.npy"))) < 2:
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (cut / "n").exists()
    subprocess.run(_command(world, embedder_dir, cut, 0), check=True)
    for name in ("neighbours.npy", "neighbours.json"):
        assert (cut / "n" / name).read_bytes() == (whole / "n" / name).read_bytes()
    assert sorted(path.name for path in cut.iterdir()) == ["n", "tokenizer.json"]


def test_neighbours_belong_to_their_pack(
    world: _World, found: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Opened for another pack they are refused, with both digests."""
    pack_texts([Document("a", "", "another text " * 50)], tokenizer, tmp_path / "pack")
    other = PackedText.open(tmp_path / "pack")
    with pytest.raises(CheckpointMismatchError, match="another pack") as caught:
        Neighbours.open(found, other, world.store)
    assert (caught.value.expected, caught.value.actual) == (
        other.facts.tokens,
        world.pack.facts.tokens,
    )


def test_pack_and_references_share_their_tokenizer(world: _World, tmp_path: Path) -> None:
    """What was made with two tokenizers is refused before anything is searched."""
    other = train_tokenizer(["quite different words"], vocab_size=300)
    pack_texts([Document("a", "", "a text " * 50)], other, tmp_path / "pack")
    alien = _World(PackedText.open(tmp_path / "pack"), world.store, other, world.embedder)
    with pytest.raises(CheckpointMismatchError, match="different tokenizers"):
        alien.find(tmp_path / "n")


def test_facts_tell_what_neighbours_are_made_from(world: _World, found: Path) -> None:
    """Digests of all parts and the settings stand beside the rows."""
    values = json.loads((found / "neighbours.json").read_text())
    facts = NeighbourFacts(**{**values, "embedder": tuple(values["embedder"])})
    assert facts == _open(world, found).facts
    assert facts.embedder == ("lexical", world.embedder.digest)
    assert facts.settings == {**dataclasses.asdict(EXACT), "threshold": "9/10"}


@pytest.mark.parametrize("change", [{"candidates": 0}, {"threshold": Fraction(0)}])
def test_settings_out_of_range_are_refused(
    world: _World, tmp_path: Path, change: dict[str, object]
) -> None:
    """Before anything is searched."""
    with pytest.raises(InvalidArgumentError, match="above 0"):
        world.find(tmp_path / "n", dataclasses.replace(EXACT, **change))


def test_a_place_of_something_else_is_left_alone(world: _World, tmp_path: Path) -> None:
    """A folder that holds no neighbours is not replaced."""
    (tmp_path / "n").mkdir()
    with pytest.raises(InvalidArgumentError, match="holds no neighbours"):
        world.find(tmp_path / "n")


def test_broken_neighbours_are_refused(world: _World, found: Path, tmp_path: Path) -> None:
    """Cut short, they cannot be read."""
    (tmp_path / "n").mkdir()
    for file in found.iterdir():
        (tmp_path / "n" / file.name).write_bytes(file.read_bytes())
    rows = tmp_path / "n" / "neighbours.npy"
    rows.write_bytes(rows.read_bytes()[:-4])
    with pytest.raises(CorruptDataError, match="cannot be read"):
        Neighbours.open(tmp_path / "n", world.pack, world.store)
