"""``memory3 checkpoint`` on a real checkpoint with random weights."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from memory3.testing.checkpoints import tiny_checkpoint
from tests.huggingface import save_model
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


def test_convert_tells_what_it_made(run: Run, tmp_path: Path) -> None:
    """A source becomes a checkpoint that verifies; a table tells people, JSON programs."""
    save_model(tmp_path / "source", "qwen2")
    (tmp_path / "texts.txt").write_text("Some words. Some other words.")
    made = run(
        "checkpoint", "convert", "source", "out", "--texts", "texts.txt", "--dtype", "bfloat16",
        "--memory-layers", "1", "-o", "json",
    ).json  # fmt: skip
    verified = run("checkpoint", "verify", "out", "-o", "json").json
    assert verified["digest"] == made["digest"]
    assert (made["family"], made["dtype"], made["num_texts"]) == ("Qwen2", "BF16", 1)
    assert made["memory_bytes"] == 2 * (1 * 2 * 2 * 8 * 8)
    table = run("checkpoint", "convert", "source", "out").out
    assert "Qwen2" in table
    assert "all words weigh the same" in table


def test_convert_tells_what_is_wrong(run: Run, tmp_path: Path) -> None:
    """A source that cannot be converted exits with 1, a wrong option with 2."""
    save_model(tmp_path / "source", "llama")
    result = run("checkpoint", "convert", "source", "out", "--memory-layers", "9")
    assert (result.code, result.out) == (2, "")
    assert "num_memory_layers" in result.err
    (tmp_path / "source" / "tokenizer.json").unlink()
    result = run("checkpoint", "convert", "source", "out")
    assert (result.code, result.out) == (1, "")
    assert "tokenizer.json" in result.err
    assert "fix:" in result.err


def test_heads_are_reported(run: Run, tiny: Path, tmp_path: Path) -> None:
    """Every KV head of every layer has a row, the highest rise first, and a square in the plot."""
    (tmp_path / "a.txt").write_text("She keeps a poodle as a pet and plays the cello. " * 6)
    asked = ("checkpoint", "heads", str(tiny), "--texts", "a.txt", "--window", "8")
    report = run(*asked, "--plot", "plots/heads.svg", "-o", "json").json
    rises = [head["rise"] for head in report["heads"]]
    assert len(rises) == 4 * 2
    assert rises == sorted(rises, reverse=True)
    assert {head["layer"] for head in report["heads"] if head["reads_memory"]} == {0, 1}
    rows = run(*asked).rows
    assert [row[:2] for row in rows] == [
        [str(head["layer"]), str(head["head"])] for head in report["heads"]
    ]
    drawing = ElementTree.parse(tmp_path / "plots" / "heads.svg")
    told = [title.text or "" for title in drawing.iter("{http://www.w3.org/2000/svg}title")]
    best = report["heads"][0]
    assert len(told) == 8
    assert f"layer {best['layer']}, KV head {best['head']}: {best['rise']:.5f}" in told


def test_heads_need_texts_longer_than_the_window(run: Run, tiny: Path, tmp_path: Path) -> None:
    """Neither short texts nor files that are none are measured in silence."""
    (tmp_path / "short.txt").write_text("Short.")
    (tmp_path / "other.bin").write_bytes(b"\0")
    result = run("checkpoint", "heads", str(tiny), "--texts", "short.txt")
    assert (result.code, result.out) == (2, "")
    assert "no text has more than" in result.err
    result = run("checkpoint", "heads", str(tiny), "--texts", "short.txt", "--texts", "other.bin")
    assert result.code == 2
    assert "other.bin" in result.err
