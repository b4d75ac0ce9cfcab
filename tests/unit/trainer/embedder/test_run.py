"""A checkpoint gets its embedder: what is written, what is left alone, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from memory3_trainer.cli import app
from memory3_trainer.stages.start import start_from
from typer.testing import CliRunner

from memory3.checkpoint import Checkpoint
from memory3.embedders.loading import load_embedder
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.testing.embedders import people_recall
from tests.unit.trainer.stages.conftest import tiny

_FEW = ("--people", 200, "--steps", 60, "--batch-size", 64, "--dimensions", 32)


def _run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["embedder", *map(str, arguments)])


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Without an embedder of its own."""
    return tiny_checkpoint(tmp_path_factory.mktemp("bare") / "bare", width=96)


@pytest.fixture(scope="module")
def trained(bare: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The checkpoint that the command makes, searched with the model alone, and what it told."""
    out = tmp_path_factory.mktemp("trained") / "trained"
    ended = _run(bare.path, *_FEW, "--lexical-share", 0, "--out", out, "--output", "json")
    assert ended.exit_code == 0, ended.stderr
    return out, json.loads(ended.stdout)


def test_training_finds_more_people(
    bare: Checkpoint, trained: tuple[Path, Any], tmp_path: Path
) -> None:
    """Unseen people are found far more often than by one step of training."""
    one = tmp_path / "one"
    options = ("--people", 200, "--steps", 1, "--dimensions", 32, "--lexical-share", 0)
    assert _run(bare.path, *options, "--out", one).exit_code == 0
    before, after = (
        people_recall(load_embedder(None, path / "embedder"), num_people=100)
        for path in (one, trained[0])
    )
    assert after[0] > before[0] + 0.1
    assert after[1] > before[1] + 0.1


def test_only_the_embedder_changes(bare: Checkpoint, trained: tuple[Path, Any]) -> None:
    """Weights, words and lexical files are the same bytes; the digest is another's."""
    out, told = trained
    made = Checkpoint.open(out)
    assert made.digest == told["digest"] != bare.digest
    assert bare.manifest.files.items() <= made.manifest.files.items()
    assert set(made.manifest.files) - set(bare.manifest.files) == {
        "embedder/embedder.json", "embedder/checkpoint.json", "embedder/projection.safetensors"
    }  # fmt: skip
    assert load_embedder(None, made.embedder_dir).name == told["embedder"] == "checkpoint"


def test_the_manifest_tells_how_and_how_well(trained: tuple[Path, Any]) -> None:
    """Command, settings, curve, and recall for every share."""
    manifest = Checkpoint.open(trained[0]).manifest
    made = manifest.provenance["embedder"]
    assert made["settings"]["steps"] == 60
    assert made["num_queries"] == {
        "people": {"learnt_from": 180, "held_out": 20, "references": 200}
    }
    assert "--people 200" in made["command"]
    assert "--lexical-share 0" in made["command"]
    recall = manifest.scores["embedder"]["recall_of_pairs_held_out"]["people"]
    assert set(recall) == {"0", *(f"0.{tenth}" for tenth in range(1, 10)), "1"}
    assert recall == trained[1]["recall"]["people"]
    assert manifest.provenance["note"]  # what the checkpoint said before is still there


def test_what_is_measured_chooses(bare: Checkpoint, tmp_path: Path) -> None:
    """The share that is stored finds within half a point of the most that any share finds."""
    out = tmp_path / "chosen"
    ended = _run(bare.path, *_FEW, "--out", out, "--output", "json")
    told = json.loads(ended.stdout)
    best = max(sum(row.values()) for row in told["recall"]["people"].values())
    share = "1" if told["embedder"] == "lexical" else f"{told['lexical_share']:g}"
    assert sum(told["recall"]["people"][share].values()) >= best - 0.011
    assert load_embedder(None, out / "embedder").name == told["embedder"]


def test_a_checkpoint_can_be_given_its_embedder_in_place(tmp_path: Path) -> None:
    """And again, which replaces the first."""
    path = tiny_checkpoint(tmp_path / "model").path
    options = ("--people", 20, "--steps", 2, "--dimensions", 8, "--out", path)
    for seed in (1, 2):
        assert _run(path, *options, "--seed", seed).exit_code == 0
    provenance = Checkpoint.open(path).manifest.provenance
    assert provenance["embedder"]["settings"]["seed"] == 2
    assert [item.name for item in tmp_path.iterdir()] == ["model"]


def test_a_stage_searches_with_it_but_does_not_hand_it_on(trained: tuple[Path, Any]) -> None:
    """Other weights will come out, which the pooling was not trained on."""
    start = start_from(tiny(start=str(trained[0]), model={}), trained[0])
    assert start.embedder.name == "checkpoint"
    assert set(start.embedder_files) == {"idf.safetensors", "lexical.json"}


def test_questions_and_texts(bare: Checkpoint, tmp_path: Path) -> None:
    """All kinds of pairs in one run, shown as a table with a column for each."""
    rows = [
        {"id": str(n), "title": "T", "text": f"The boat {n} is red. It leaves the port at {n}."}
        for n in range(12)
    ]
    asked = [
        {"id": r["id"], "question": f"Which boat is {r['id']}?", "answers": ["red"],
         "passage_id": r["id"]}
        for r in rows
    ]  # fmt: skip
    for name, lines in (("passages", rows), ("questions", asked)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / f"boats.{name}.jsonl").write_text(text)
    ended = _run(
        bare.path, "--questions", tmp_path / "boats", "--texts", tmp_path / "boats.passages.jsonl",
        "--people", 20, "--steps", 3, "--dimensions", 8, "--out", tmp_path / "out",
    )  # fmt: skip
    assert ended.exit_code == 0, ended.stderr
    assert ended.stdout.startswith("lexical share\tboats @1 / @5\ttexts @1 / @5\tpeople @1 / @5\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("MODEL", "--out", "out"), "nothing to learn from"),
        (("absent", "--people", 20, "--out", "out"), "no checkpoint directory 'absent'"),
        (("MODEL", "--people", 1, "--out", "out"), "at least 2 are needed"),
        (("MODEL", "--texts", "absent.jsonl", "--out", "out"), "absent.jsonl"),
        (("MODEL", "--questions", "absent", "--out", "out"), "absent.passages.jsonl"),
        (("MODEL", "--people", 20, "--lexical-share", 1, "--out", "out"), "lexical_share is 1"),
        (("MODEL", "--people", 20, "--temperature", 0, "--out", "out"), "temperature is 0"),
        (("MODEL", "--people", 20, "--device", "abacus", "--out", "out"), "'abacus'"),
        (("MODEL", "--people", 20, "--out", "taken"), "exists and is no checkpoint"),
    ],
)
def test_a_failure_is_one_sentence_and_a_remedy(
    arguments: tuple[object, ...],
    told: str,
    bare: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On stderr, with exit code 1 and nothing left behind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    ended = _run(*(bare.path if argument == "MODEL" else argument for argument in arguments))
    assert ended.exit_code == 1
    assert told in ended.stderr
    assert "fix: " in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
