"""Real faults of the disk and of the process: a full disk, and SIGKILL in the midst of writing."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from memory3_retriever.bank.verify import verify_bank

from tests.unit.retriever.banks import items, new_store, open_store

# A limit on the size of files makes the system refuse writes as a full disk does.
_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from memory3.errors import StorageFullError
from tests.unit.retriever.banks import item_of, items, open_store

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
store = open_store(folder)
before = store.statistics()
limit = (folder / "data.mdb").stat().st_size + 40_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    store.put([item_of(f"big {n}", payload_bytes=50_000) for n in range(40)])
except StorageFullError as error:
    print("refused", error.reason)
assert store.statistics() == before, "a refused write was visible"
assert len(store.memories(store.vector_keys())) == before.num_memories
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.put(items(3, start=100))
print("wrote", store.statistics().num_references)
store.close()
"""

# Says what it was told is durable, one line each, until it is killed.
_WRITER = """
import sys
from pathlib import Path
from tests.unit.retriever.banks import items, open_store

store = open_store(Path(sys.argv[1]), map_bytes=1 << 18)
number = int(sys.argv[2])
while True:
    batch = items(4, f"source {number}", start=number * 4)
    change = store.put(batch)
    print(number, flush=True)
    if number % 3 == 0:
        store.delete([], f"source {number}")
        print(-number, flush=True)
    number += 1
"""


def _python(code: str, *arguments: str) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parents[3]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_full_disk_is_a_typed_error_and_changes_nothing(tmp_path: Path) -> None:
    """The write is refused as StorageFullError, old data stays readable, later writes succeed."""
    store = new_store(tmp_path / "bank")
    store.put(items(10))
    store.close()
    process = _python(_FULL_DISK, str(tmp_path / "bank"))
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert output.splitlines() == ["refused STORAGE_FULL", "wrote 13"]
    store = open_store(tmp_path / "bank")
    assert verify_bank(store).problems == []
    store.close()


@pytest.mark.parametrize("run", range(8))
def test_a_killed_writer_leaves_nothing_half_visible(tmp_path: Path, run: int) -> None:
    """After SIGKILL at any moment all that was acknowledged is there, and the bank is sound."""
    folder = tmp_path / "bank"
    new_store(folder).close()
    process = _python(_WRITER, str(folder), "1")
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(random.Random(run).uniform(0.0, 0.3))
    process.send_signal(signal.SIGKILL)
    acknowledged = [int(line) for line in [first, *process.communicate()[0].splitlines()] if line]
    store = open_store(folder)
    assert verify_bank(store).problems == []
    last = max(acknowledged)
    for number in acknowledged:
        found = len(store.page(b"", 100, f"source {number}"))
        if number > 0 and number % 3:
            assert found == 4, "an acknowledged write was lost"
        elif number < 0:
            assert len(store.page(b"", 100, f"source {-number}")) == 0, "a deletion was lost"
    # The write that was under way is wholly there or not at all.
    assert len(store.page(b"", 100, f"source {last + 1}")) in (0, 4)
    store.close()
