"""A3: whatever the files of an index are, no process dies of them and no answer changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.campaign import FULL, Campaign
from tests.faults.index_reader import make_banks

BLOCK = 100


class Readers:
    """Reads damaged indexes, a block of seeds in each process; a seed that kills one is named."""

    def __init__(self, banks: Path) -> None:
        self._banks = banks
        self._told: dict[int, str | None] = {}

    def check(self, seed: int, last: int) -> None:
        """Fail if the process died of a seed, or answered otherwise than before."""
        if seed not in self._told:
            self._read(seed, min(seed + BLOCK, max(last, seed + 1)))
        if self._told[seed] is not None:
            raise AssertionError(self._told[seed])

    def _read(self, first: int, last: int) -> None:
        command = [sys.executable, "-m", "tests.faults.index_reader", str(self._banks)]
        ended = subprocess.run(
            [*command, str(first), str(last)], capture_output=True, text=True, timeout=600
        )
        lines = [line[1:] for line in ended.stdout.splitlines() if line.startswith("@")]
        told = dict(json.loads(line) for line in lines)
        self._told.update(told)
        if len(told) < last - first:
            culprit = first + len(told)
            self._told[culprit] = (
                f"the process ended with {ended.returncode}: {ended.stderr[-800:]}"
            )


def test_mutated_index_files(campaign: Campaign, tmp_path: Path) -> None:
    """Bits flipped, files cut, swapped, foreign, forged or no files: never a crash or a change."""
    make_banks(tmp_path)
    readers, full, short = Readers(tmp_path), 2000, 40
    last = full if os.environ.get(FULL) else short
    campaign.run("A3", lambda seed: readers.check(seed, last), full=full, short=short)


def test_a_reader_that_dies_is_seen(tmp_path: Path) -> None:
    """A process that ends before its last seed fails the seed that it was at."""
    readers = Readers(tmp_path / "no banks")
    with pytest.raises(AssertionError, match=r"(?s)process ended with 1.*No such file"):
        readers.check(7, 10)
