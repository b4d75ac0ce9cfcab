"""A bank whose header could not be written: LMDB gives it up, the bank opens it again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.failing_disk import FailingDisk
from tests.unit.retriever.banks import items, new_store, open_store

# Fails the first write of a commit, then the second and so on, of which one is the header's.
_WRITER = """
import errno, os, sys
from pathlib import Path
from memory3.errors import Memory3Error
from tests.faults.failing_disk import WRITE, Switch
from tests.unit.retriever.banks import item_of, open_store

disk = Switch(Path(os.environ["FAILING_DISK_CONTROL"]))
store = open_store(Path(sys.argv[1]))
store.environment.set_durability(sys.argv[2])
number = 0
for skip in range(12):
    before = store.environment._lmdb
    disk.fail(WRITE, errno.EIO, skip, True)
    try:
        store.put([item_of(f"refused {skip}", payload_bytes=9000)])
        print("written", f"refused {skip}", flush=True)
    except Memory3Error as error:
        print("error", error.reason, flush=True)
    disk.mend()
    assert store.get(store.vector_keys())
    store.put([item_of(f"kept {skip}")])
    print("written", f"kept {skip}", flush=True)
    if store.environment._lmdb is not before:
        print("reopened", skip, flush=True)
store.close()
"""


@pytest.mark.parametrize("durability", ["fsync", "async"])
def test_a_bank_is_opened_again_after_its_header_failed(tmp_path: Path, durability: str) -> None:
    """Every write after it succeeds, what failed is not there, and the files are sound."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler to build the failing disk with")
    store = new_store(tmp_path / "bank")
    store.put(items(5))
    store.close()
    disk = FailingDisk(tmp_path, tmp_path / "bank")
    done = subprocess.run(
        [sys.executable, "-c", _WRITER, str(tmp_path / "bank"), durability],
        env={**os.environ, **disk.environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    told = {word: [rest for first, rest in lines if first == word] for word, _ in lines}
    assert told["reopened"], "the header was never among what failed"
    assert set(told["error"]) <= {"STORAGE_FULL", "BACKEND_UNAVAILABLE"}
    store = open_store(tmp_path / "bank")
    found = {reference.text for reference in store.page(b"", 1000)}
    assert found == {*told["written"], *(f"text number {n}" for n in range(5))}
    store.close()
