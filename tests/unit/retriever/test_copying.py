"""Copies of a bank that is written to all the time: whole, and of one moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# A process of its own: what this once found killed the process it happened in.
WRITE_AND_COPY = """
import sys, threading, time
from pathlib import Path
import numpy as np
from memory3_retriever.bank.ledger import NewReference
from memory3_retriever.bank.records import BankInfo, EmbedderIdentity, Reference
from memory3_retriever.bank.store import BankStore

folder = Path(sys.argv[1])
info = BankInfo(
    name="docs", uid="u", checkpoint_digest="c", embedder=EmbedderIdentity("e", "d", 32),
    index="exact", codec="raw", write_policy="eager", description="", create_time_ns=0,
)
(folder / "bank").mkdir()
store = BankStore(folder / "bank", "docs", map_bytes=1 << 20, max_map_bytes=1 << 40, info=info)
ended = threading.Event()

def write():
    batch = 0
    while not ended.is_set():
        store.put([
            NewReference(
                Reference(text=f"{batch} {item}", source="s"),
                np.ones(32, dtype=np.float32),
                bytes(6000),
            )
            for item in range(10)
        ])
        batch += 1
        time.sleep(0.01)

writer = threading.Thread(target=write)
writer.start()
sizes = []
for number in range(8):
    target = folder / str(number)
    target.mkdir()
    store.environment.copy(target)
    assert [path.name for path in target.iterdir()] == ["data.mdb"], list(target.iterdir())
    copy = BankStore(target, "docs", map_bytes=0, max_map_bytes=1 << 40)
    counted, listed = copy.statistics(), copy.page(b"", 10**6)
    assert counted.num_references == counted.num_memories == len(listed)
    assert len(listed) == 10 * counted.revision, (len(listed), counted.revision)
    sizes.append(len(listed))
    copy.close()
ended.set()
writer.join()
store.close()
assert sizes == sorted(sizes) and sizes[-1] > sizes[0], sizes
"""


def test_a_bank_is_copied_whole_while_it_is_written_to(tmp_path: Path) -> None:
    """Eight copies beside a writer: each of whole changes, each no fewer than the one before."""
    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", WRITE_AND_COPY, str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=150,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
