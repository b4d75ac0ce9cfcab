"""The bar of a long piece of work: for people at a terminal, and for nobody else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

_WORK = """
from memory3.cli.progress import progress_bar
with progress_bar("adding") as tell:
    for done in range(4):
        tell(done, 3)
print("done")
"""


def _run(stderr: int) -> bytes:
    told = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-c", _WORK], stdout=subprocess.PIPE, stderr=stderr, env=told, check=True
    ).stdout


def test_a_bar_is_for_terminals_alone(tmp_path: Path) -> None:
    """On a terminal it is drawn, on stderr; into a file goes nothing, and output is the same."""
    main, terminal = pty.openpty()
    try:
        at_terminal = _run(terminal)
        os.close(terminal)
        drawn = b""
        # Reading past the end of a terminal that nobody has open any more is an error on Linux.
        while chunk := _read(main):
            drawn += chunk
    finally:
        os.close(main)
    with (tmp_path / "stderr").open("wb") as file:
        in_file = _run(file.fileno())
    assert b"adding" in drawn
    assert (tmp_path / "stderr").read_bytes() == b""
    assert at_terminal == in_file == b"done\n"


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
