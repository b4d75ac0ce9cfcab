"""What is looked through before LMDB has a file: sound ones pass, whatever their sizes."""

from __future__ import annotations

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
