"""The benchmark for GPUs: whole on a processor with a small model, refused without a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

COMMAND = [sys.executable, "-m", "benchmarks.decoder.gpu"]


def test_it_measures_a_small_model_on_a_processor(tmp_path: Path) -> None:
    """Every figure is there and positive, for both steps, with and without memories."""
    small = "--device cpu --preset tiny --batches 1 3 --num-in 70 --num-out 4 --references 2"
    out = tmp_path / "gpu.json"
    done = subprocess.run(
        [*COMMAND, *small.split(), "--copy-mib", "8", "--output", "json", "--out", str(out)],
        capture_output=True, text=True, check=True, timeout=150,
    )  # fmt: skip
    figures = json.loads(done.stdout)
    assert figures == json.loads(out.read_text())
    assert {(row["batch"], row["step"], row["memories"]) for row in figures["decoding"]} == {
        (batch, step, memories)
        for batch in (1, 3)
        for step in ("eager", "static")
        for memories in (0, 5)
    }
    assert all(row["tokens_per_second"] > 0 for row in figures["decoding"])
    shares = [row["share_of_bandwidth"] for row in figures["decoding"] if row["batch"] == 1]
    assert len(shares) == 4
    assert min(shares) > 0
    assert figures["written_references_per_second"] > 0
    assert {name: bool(rows) for name, rows in figures["where_a_step_goes"].items()} == {
        "eager": True,
        "static": True,
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_it_refuses_where_there_is_no_gpu(tmp_path: Path) -> None:
    """Without a GPU it says so, ends with an error and writes nothing."""
    out = tmp_path / "gpu.json"
    done = subprocess.run(
        [*COMMAND, "--out", str(out)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert "the device 'cuda' cannot be used" in done.stderr
    assert not out.exists()
