"""The protocol only grows: what a client of an older version sends and reads stays as it was."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.imports import ROOT

BUF = Path(sys.executable).with_name("buf")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the protocol, to be changed."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def _change(folder: Path, file: str, pattern: str, replacement: str) -> None:
    path = folder / "proto/memory3/v1" / file
    changed, count = re.subn(pattern, replacement, path.read_text(), count=1)
    assert count == 1
    path.write_text(changed)


def _buf(folder: Path, *arguments: str) -> str:
    """What buf has to say against it; empty for nothing."""
    done = subprocess.run([BUF, *arguments], cwd=folder, capture_output=True, text=True)
    assert (done.returncode == 0) is (done.stdout == ""), done.stderr
    return done.stdout


def _breaking(folder: Path) -> str:
    return _buf(folder, "breaking", "--against", "proto/memory3-v1.binpb")


def test_nothing_was_taken_away(copy: Path) -> None:
    """The protocol as it is has all that it had when it was last kept."""
    assert _breaking(copy) == ""


@pytest.mark.parametrize(
    ("file", "pattern", "replacement", "told"),
    [
        ("decoder.proto", r"string prompt = 1;", "string text = 1;", "name"),
        ("decoder.proto", r"string prompt = 1;", "bytes prompt = 1;", "type"),
        ("retriever.proto", r"  string bank = 1;", "", "deleted"),
        ("retriever.proto", r"  rpc Search\(.*", "", "deleted"),
        ("encoder.proto", r"returns \(stream ", "returns (", "stream"),
    ],
    ids=["another name", "another type", "no field", "no method", "no stream"],
)
def test_a_change_that_breaks_callers_is_refused(
    copy: Path, file: str, pattern: str, replacement: str, told: str
) -> None:
    """Renamed, changed and removed parts are named with their file."""
    _change(copy, file, pattern, replacement)
    said = _breaking(copy)
    assert told in said
    assert file in said


def test_growing_is_no_break_and_needs_a_comment(copy: Path) -> None:
    """A new field may come at any time; one without a comment is refused by the lint rules."""
    _change(copy, "decoder.proto", r"(message GenerateRequest \{\n)", r"\1  string added = 99;\n")
    assert _breaking(copy) == ""
    assert "added" in _buf(copy, "lint")
