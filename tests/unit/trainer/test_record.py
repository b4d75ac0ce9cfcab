"""Measured scores enter a manifest whole, and nothing else of the checkpoint changes."""

import json
from pathlib import Path

import pytest
from memory3_trainer.cli import app
from memory3_trainer.record import read_scores
from typer.testing import CliRunner

from memory3.checkpoint import Checkpoint
from memory3.errors import InvalidArgumentError
from memory3.testing.checkpoints import tiny_checkpoint


def test_scores_are_written_and_the_digest_stays(tmp_path: Path) -> None:
    """A bank of the measured checkpoint is a bank of the recorded one."""
    before = tiny_checkpoint(tmp_path / "measured")
    result = {"retrieved": {"em": 0.5, "f1": 0.6, "n": 10}, "settings": {"codec": "raw"}}
    (tmp_path / "nq.json").write_text(json.dumps(result))
    out = tmp_path / "recorded"
    arguments = ["record", str(before.path), f"nq={tmp_path / 'nq.json'}", "--out", str(out)]
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0, told.output
    after = Checkpoint.open(out)
    assert after.digest == before.digest
    assert after.manifest.scores == {**before.manifest.scores, "nq": result}
    assert after.manifest.provenance == before.manifest.provenance


@pytest.mark.parametrize(
    ("part", "content", "said"),
    [
        ("nq.json", "{}", "is no NAME=FILE"),
        ("nq={}", "[1]", "holds no object"),
        ("nq={}", "{", "cannot be read as JSON"),
        ("nq={}", None, "cannot be read as JSON"),
    ],
)
def test_what_is_no_result_is_refused(
    tmp_path: Path, part: str, content: str | None, said: str
) -> None:
    """Before a checkpoint is touched."""
    file = tmp_path / "result.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidArgumentError, match=said):
        read_scores([part.replace("{}", str(file))])
