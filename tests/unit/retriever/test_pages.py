"""What is looked through before LMDB has a file: sound ones pass, whatever their sizes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import pytest
from memory3_retriever.bank.environment import DATA_FILE
from memory3_retriever.bank.ledger import NewReference
from memory3_retriever.bank.pages import DamagedPagesError, check_pages
from memory3_retriever.bank.records import BankInfo, EmbedderIdentity, Reference
from memory3_retriever.bank.store import BankStore


def bank(path: Path) -> BankStore:
    """An empty bank."""
    path.mkdir()
    info = BankInfo(
        name="docs", uid="u", checkpoint_digest="c", embedder=EmbedderIdentity("e", "d", 32),
        index="exact", codec="raw", write_policy="eager", description="", create_time_ns=0,
    )  # fmt: skip
    return BankStore(path, "docs", map_bytes=1 << 22, max_map_bytes=1 << 40, info=info)


@pytest.mark.parametrize("seed", range(6))
def test_banks_of_every_size_pass(tmp_path: Path, seed: int) -> None:
    """Sources of some and of many hundred references, with and without metadata, some deleted."""
    rng = Random(seed)
    store = bank(tmp_path / "bank")
    keys: list[bytes] = []
    for batch in range(25):
        new = [
            NewReference(
                Reference(
                    text=f"{batch} {item}",
                    source=f"s{min(3, int(rng.expovariate(1)))}",
                    metadata={"kind": str(rng.randrange(3))} if seed % 2 else {},
                ),
                np.ones(32, dtype=np.float32),
                bytes(rng.choice((100, 3000, 9000))),
            )
            for item in range(rng.randrange(1, 40))
        ]
        store.put(new)
        keys += [item.reference.key for item in new]
        store.delete(rng.sample(keys, rng.randrange(5)))
        check_pages(store.environment.path / DATA_FILE)
    store.close()
    check_pages(tmp_path / "bank" / DATA_FILE)


def test_a_damaged_header_is_told(tmp_path: Path) -> None:
    """Before LMDB could follow it."""
    bank(tmp_path / "bank").close()
    data = tmp_path / "bank" / DATA_FILE
    content = bytearray(data.read_bytes())
    content[16] ^= 1
    data.write_bytes(content)
    with pytest.raises(DamagedPagesError):
        check_pages(data)


PAGE = 4096
LEAF, LONG = 0x02, 0x04


@dataclass(frozen=True)
class Large:
    """The file of a bank with many leaves, whose memories have pages of their own.

    Attributes:
        content: The file.
        leaves: Where the leaves are that belong to a tree.
        values: Where the long values are that belong to a record.
        path: Where changed files go.
    """

    content: bytes
    leaves: list[int]
    values: list[int]
    path: Path

    def refused(self, changes: dict[int, int]) -> bool:
        """Whether the file is refused with some bytes of it changed."""
        damaged = bytearray(self.content)
        for at, value in changes.items():
            damaged[at] = value
        self.path.write_bytes(damaged)
        try:
            check_pages(self.path)
        except DamagedPagesError:
            return True
        return False

    def flipped(self, at: int, bits: int = 1) -> bool:
        """Whether it is refused with some bits of a byte flipped."""
        return self.refused({at: self.content[at] ^ bits})


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Large:
    """Of 400 references."""
    folder = tmp_path_factory.mktemp("large")
    store = bank(folder / "bank")
    references = [Reference(text=f"number {n}", source="s") for n in range(400)]
    vector, envelope = np.ones(32, dtype=np.float32), bytes(5000)
    store.put([NewReference(reference, vector, envelope) for reference in references])
    store.close()
    file = Large((folder / "bank" / DATA_FILE).read_bytes(), [], [], folder / "changed")
    for at in range(2 * PAGE, len(file.content), PAGE):
        kind = file.content[at + 10]
        found = {LEAF: file.leaves, LONG: file.values}.get(kind)
        # A page that nothing refers to may say what it likes, its own number among it.
        if found is not None and (kind == LONG or file.flipped(at)):
            found.append(at)
    return file


@pytest.mark.parametrize("offset", [0, 10, 12, 16])
def test_damage_of_one_leaf_among_many_is_told(large: Large, offset: int) -> None:
    """Its number, its kind, how many records it has and where the first begins."""
    assert len(large.leaves) > 20
    assert all(large.flipped(at + offset, 0x81) for at in large.leaves[::5])


def test_a_key_out_of_order_is_told(large: Large) -> None:
    """Only the order of keys shows that the first byte of one is another."""
    num_tried = 0
    for at in large.leaves[::3]:
        record = at + int.from_bytes(large.content[at + 16 : at + 18], "little")
        if int.from_bytes(large.content[record + 6 : record + 8], "little") == 16:
            num_tried += 1
            assert large.flipped(record + 8, 0x80)
    assert num_tried > 5


def test_damage_of_a_long_value_is_told(large: Large) -> None:
    """Its number, its kind and how many pages it has."""
    assert len(large.values) >= 400
    for at in large.values[::80]:
        assert all(large.flipped(at + offset) for offset in (0, 10, 12))


def test_two_leaves_at_one_another_s_place_are_told(large: Large) -> None:
    """Each whole in itself, and with the number that its place has."""
    content, (one, other) = large.content, large.leaves[3:5]
    damaged = bytearray(content)
    damaged[one + 8 : one + PAGE] = content[other + 8 : other + PAGE]
    damaged[other + 8 : other + PAGE] = content[one + 8 : one + PAGE]
    large.path.write_bytes(damaged)
    with pytest.raises(DamagedPagesError):
        check_pages(large.path)


def shorter(content: bytes, page: int) -> dict[int, int]:
    """A page's first record made four bytes shorter, where it has its value itself."""
    record = page + int.from_bytes(content[page + 16 : page + 18], "little")
    size = int.from_bytes(content[record : record + 2], "little")
    kind = int.from_bytes(content[record + 4 : record + 6], "little")
    return {record: (size - 4) & 0xFF} if kind == 0 and size & 0xFF >= 4 else {}


def test_a_record_of_another_length_is_told(large: Large, tmp_path: Path) -> None:
    """LMDB would move the others of the page by it, and so write over them, at the next change.

    Among many leaves, and in a bank that has few.
    """
    changed = [change for at in large.leaves if (change := shorter(large.content, at))]
    assert len(changed) > 5
    assert all(map(large.refused, changed))
    store = bank(tmp_path / "bank")
    store.put([
        NewReference(Reference(text=f"number {n}"), np.ones(32, dtype=np.float32)) for n in range(3)
    ])  # fmt: skip
    store.close()
    content = (tmp_path / "bank" / DATA_FILE).read_bytes()
    small = Large(content, [], [], tmp_path / "changed")
    pages = [at for at in range(2 * PAGE, len(content), PAGE) if content[at + 10] == LEAF]
    used = [at for at in pages if small.flipped(at)]
    changed = [change for at in used if (change := shorter(content, at))]
    assert changed
    assert all(map(small.refused, changed))
