"""The command `train`: what it prints, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from memory3_trainer.cli import app
from typer.testing import CliRunner

from tests.unit.trainer.stages.conftest import TINY
from tests.unit.trainer.stages.test_run import as_toml


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The tiny stage as a file."""
    path = tmp_path / "tiny.toml"
    path.write_text(as_toml({**TINY, "steps": 2}), encoding="utf-8")
    return path


def test_a_stage_is_trained_and_told_as_json(recipe: Path, data: Path, tmp_path: Path) -> None:
    """The command that repeats it stands in the manifest, without this machine's folders."""
    out = tmp_path / "run"
    arguments = ["train", str(recipe), "--data", str(data), "--out", str(out), "-o", "json"]
    result = CliRunner().invoke(app, [*arguments, "--override", "seed=3", "--detach-memory"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["steps"], told["checkpoint"]) == (2, str(out / "checkpoint"))
    manifest = json.loads((out / "checkpoint" / "manifest.json").read_text())
    assert manifest["digest"] == told["digest"]
    (stage,) = manifest["provenance"]["stages"]
    assert stage["settings"]["seed"] == 3
    assert stage["settings"]["selection"]["detach"] is True
    assert "--override 'seed=3'" in stage["command"]
    assert str(tmp_path) not in (out / "checkpoint" / "manifest.json").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--override", "steps=0"], "steps"),
        (["--override", "colour=1"], "colour"),
        (["--start", "nowhere"], "nowhere"),
        (["--data", "nowhere"], "tokenizer"),
        (["--override", 'sources.text.pack="nothing"'], "nothing"),
    ],
)
def test_what_is_wrong_is_told_on_stderr(
    recipe: Path, data: Path, tmp_path: Path, changes: list[str], message: str
) -> None:
    """With exit code 1 and no traceback."""
    arguments = ["train", str(recipe), "--data", str(data), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*arguments, *changes])
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_the_plan_is_a_table_or_json() -> None:
    """One row for each number of GPUs."""
    result = CliRunner().invoke(app, ["plan", "small", "--gpus", "2", "-o", "json"])
    (row,) = json.loads(result.stdout)
    assert row["num_gpus"] == 2
    assert len(CliRunner().invoke(app, ["plan"]).stdout.splitlines()) == 3
    assert CliRunner().invoke(app, ["plan", "huge"]).exit_code == 1
