"""The decoder's benchmark by its own real path, at a tiny shape: figures, table and pictures."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.decoder.plots import draw
from benchmarks.decoder.report import BEGIN, END, markdown
from benchmarks.decoder.report import main as report
from tests.architecture.imports import ROOT

_PLAIN = {"write_over_full_forward", "vs_transformers_b1", "vs_transformers_b8"}
_KEYS = {
    "plain": _PLAIN | {"share_of_bandwidth_b1", "vs_transformers_b1_bfloat16"},
    "large": {f"{key}_tiny" for key in _PLAIN},
    "memories": {
        "memory_ratio_warm_b1",
        "memory_ratio_cold_b2",
        "ttft_text_over_memory",
        "ttft_memory_over_none",
    },
    "bulk": {"bulk_add_over_bare_writer"},
    "growth": {
        "growth_batch_tokens_per_second_ratio",
        "growth_context_token_ms_ratio",
        "growth_references_first_token_ms_ratio",
    },
}


@pytest.mark.parametrize("row", _KEYS)
@pytest.mark.timeout(600)
def test_a_row_is_measured_shown_and_drawn(row: str, tmp_path: Path) -> None:
    """Real models and services give the row's keys; the same figures give the same picture."""
    out = tmp_path / "decoder.json"
    command = ["-m", "benchmarks.decoder", "--quick", "--shape", "tiny", "--large", "tiny"]
    command += ["--rows", row, "--output", "json", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=590
    )
    printed, saved = json.loads(done.stdout), json.loads(out.read_text())
    assert saved.items() >= printed.items()
    assert printed.keys() >= _KEYS[row]
    assert all(math.isfinite(printed[key]) for key in _KEYS[row])
    for key in _KEYS[row]:
        assert f"| `{key}` |" in markdown(saved)
    first = {path.name: path.read_bytes() for path in draw(saved, tmp_path / "one")}
    again = {path.name: path.read_bytes() for path in draw(saved, tmp_path / "two")}
    assert first == again
    assert (row == "bulk") != bool(first)


def test_the_table_takes_the_place_of_the_last_one(tmp_path: Path) -> None:
    """What stands around the marks stays; a document without them is refused."""
    figures, document = tmp_path / "decoder.json", tmp_path / "performance.md"
    figures.write_text(json.dumps({"shape": "a", "large": "b", "dtype": "c", "ratio": 2}))
    document.write_text(f"Before.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n")
    for _ in range(2):
        report([str(figures), "--write", str(document)])
        text = document.read_text()
        assert text.startswith("Before.\n\n")
        assert text.endswith("\n\nAfter.\n")
        assert "old" not in text
        assert text.count("| `ratio` | 2 |") == 1
    document.write_text("No marks.")
    with pytest.raises(SystemExit):
        report([str(figures), "--write", str(document)])
    assert document.read_text() == "No marks."
