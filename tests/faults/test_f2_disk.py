"""F2: a disk that is full or fails is a typed error, harms nothing, and is survived."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

import grpc
import pytest

from memory3.rpc.status import from_rpc_error
from memory3.v1 import retriever_pb2
from tests.faults.campaign import Campaign
from tests.faults.failing_disk import RENAME, SHORT, SYNC, TRUNCATE, WRITE, FailingDisk
from tests.faults.retrievers import RetrieverProcess

_REASONS = {"STORAGE_FULL", "BACKEND_UNAVAILABLE", "CORRUPT_DATA"}


def test_a_failing_disk_is_typed_and_survived(tmp_path: Path, campaign: Campaign) -> None:
    """Old data and reads are intact while it fails, and the same process writes again after it."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler to build the failing disk with")
    retriever = RetrieverProcess(tmp_path / "r", "--cache", "none")
    disk = FailingDisk(tmp_path, retriever.data)
    retriever.start(disk.environment)
    retriever.create("docs")
    kept = dict(
        zip(retriever.add("docs", ["first", "second"], "s"), ["first", "second"], strict=True)
    )
    num_failures = 0

    def case(seed: int) -> None:
        nonlocal num_failures
        rng = Random(seed)
        calls = [WRITE, SYNC, TRUNCATE, RENAME, WRITE | SYNC][seed % 5]
        what = rng.choice([errno.ENOSPC, errno.EIO] + [SHORT] * bool(calls & WRITE))
        texts = [f"seed {seed} {n} {rng.random()}" for n in range(rng.randint(1, 20))]
        name = f"x{seed}"
        snapshot = retriever_pb2.SnapshotBankRequest(name="banks/docs", snapshot=name)
        added: dict[str, str] = {}
        gone = [] if len(kept) < 12 else rng.sample(sorted(kept), 3)

        def add() -> None:
            ids = retriever.add("docs", texts, f"s{seed}")
            added.update(zip(ids, texts, strict=True))

        work: list[Callable[[], object]] = [
            add,
            lambda: retriever.delete("docs", gone) if gone else add(),
            lambda: retriever.stub.SnapshotBank(snapshot),
            lambda: retriever.create(name),
        ]
        step = rng.randrange(4) if calls not in (TRUNCATE, RENAME) else rng.choice([0, 2, 3])
        disk.fail(calls, what, rng.randint(0, 4), rng.random() < 0.5)
        failed = False
        try:
            work[step]()
        except grpc.RpcError as error:
            failed = True
            if from_rpc_error(error).reason not in _REASONS:
                raise
        # Reads go on while the disk refuses writes.
        assert (
            retriever.contents("docs").items()
            >= {i: t for i, t in kept.items() if i not in gone}.items()
        )
        assert retriever.search("docs", "first", 1)
        num_failures += disk.mend()
        assert retriever.alive, retriever.log_tail()
        found = retriever.contents("docs")
        if failed:
            assert set(found) in (set(kept), set(kept) - set(gone)) or (
                found.items() >= kept.items() and set(found.values()) <= {*kept.values(), *texts}
            )
            kept.clear()
            kept.update(found)
        else:
            kept.update(added)
            if step == 1:
                for each in gone:
                    kept.pop(each, None)
        # The same process writes again.
        kept.update(zip(retriever.add("docs", [f"after {seed}"]), [f"after {seed}"], strict=True))
        assert retriever.contents("docs") == kept
        assert retriever.problems("docs") == []
        if seed % 20 == 19:
            retriever.start(disk.environment)
            assert retriever.require_sound("docs") == kept

    try:
        campaign.run("F2", case, full=120, short=15)
        assert num_failures > 0, "the disk never failed"
    finally:
        retriever.close()


def test_a_full_disk_is_typed_and_survived(tmp_path: Path) -> None:
    """On a really full file system: STORAGE_FULL, everything readable, and room makes it well."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    mounted = (
        subprocess.run(command, capture_output=True, text=True) if shutil.which("mount") else None
    )
    if mounted is None or mounted.returncode:
        pytest.skip(f"no file system may be mounted here: {mounted and mounted.stderr.strip()}")
    retriever = RetrieverProcess(tmp_path / "r")
    try:
        retriever.start(data=disk / "data")
        retriever.create("docs")
        (first,) = retriever.add("docs", ["first"])
        room = os.statvfs(disk)
        (disk / "ballast").write_bytes(bytes(room.f_bavail * room.f_bsize - (64 << 10)))
        with pytest.raises(grpc.RpcError) as raised:
            for number in range(1000):
                retriever.add("docs", [f"{number} {n}" for n in range(50)])
        assert from_rpc_error(raised.value).reason == "STORAGE_FULL"
        assert retriever.contents("docs")[first] == "first"
        (disk / "ballast").unlink()
        retriever.add("docs", ["after it"])
        assert retriever.problems("docs") == []
    finally:
        retriever.close()
        subprocess.run(["umount", str(disk)], check=True)
