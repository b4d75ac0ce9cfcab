"""Two processes over gloo learn what one process learns (Lightning's strategy ddp)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from memory3_trainer.stages.callbacks import read_metrics
from safetensors.torch import load_file

from tests.unit.trainer.conftest import tokenizer  # noqa: F401 -- a fixture
from tests.unit.trainer.stages.conftest import TINY, data  # noqa: F401 -- a fixture
from tests.unit.trainer.stages.test_run import as_toml


def test_two_processes_learn_as_one(
    data: Path,  # noqa: F811 -- the fixture
    tmp_path: Path,
) -> None:
    """All kinds of sources, gradients added up over two batches: same losses, same weights."""
    recipe = tmp_path / "stage.toml"
    recipe.write_text(as_toml({**TINY, "optimizer": {"warmup": 2, "accumulate": 2}}))
    for name, flags in (("one", []), ("two", ["--devices", "2", "--strategy", "ddp"])):
        command = [
            sys.executable, "-m", "memory3_trainer", "train", str(recipe), "--data", str(data),
            "--out", str(tmp_path / name), "--accelerator", "cpu", *flags,
        ]  # fmt: skip
        environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=150
        )
        assert ended.returncode == 0, ended.stderr
    one, two = (read_metrics(tmp_path / name) for name in ("one", "two"))
    assert [row["step"] for row in two] == list(range(TINY["steps"]))
    # A hard choice of tokens may fall the other way where two scores are nearly the same.
    for name, near in (("loss", 1e-3), ("gradient_norm", 1e-2), ("num_tokens", 0.0)):
        assert [r[name] for r in two] == pytest.approx([r[name] for r in one], rel=near)
    alone = load_file(tmp_path / "one" / "checkpoint" / "model.safetensors")
    together = load_file(tmp_path / "two" / "checkpoint" / "model.safetensors")
    for name, part in alone.items():
        # Adam follows the sign of a gradient near zero, so single weights may part; the whole not.
        assert torch.norm(together[name] - part) < 2e-3 * torch.norm(part)
    state = json.loads((tmp_path / "two" / "state" / "state.json").read_text())
    assert state["step"] == TINY["steps"]
