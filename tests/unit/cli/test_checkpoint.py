"""``memory3 checkpoint`` on a real checkpoint with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from memory3.testing.checkpoints import tiny_checkpoint
from tests.unit.cli.conftest import Run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint directory."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    tiny_checkpoint(folder)
    return folder


def test_info_and_verify_of_a_sound_checkpoint(
    run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digest and layout are shown; all files are as they were."""
    info = run("checkpoint", "info", str(tiny), "-o", "json").json
    monkeypatch.setenv("MEMORY3_CHECKPOINT", str(tiny))
    verified = run("checkpoint", "verify", "-o", "json").json
    assert verified["digest"] == info["digest"]
    assert verified["num_files"] > 3
    assert info["digest"] in run("checkpoint", "info").out


def test_damaged_checkpoint_is_told(run: Run, tmp_path: Path) -> None:
    """One flipped byte exits with 1 and names the file."""
    tiny_checkpoint(tmp_path / "tiny")
    weights = tmp_path / "tiny" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    result = run("checkpoint", "verify", str(tmp_path / "tiny"))
    assert (result.code, result.out) == (1, "")
    assert "model.safetensors" in result.err


def test_missing_checkpoint_is_told(run: Run, tmp_path: Path) -> None:
    """A folder that is not there exits with 1."""
    result = run("checkpoint", "info", str(tmp_path / "nowhere"))
    assert result.code == 1
    assert "nowhere" in result.err
