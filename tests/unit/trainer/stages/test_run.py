"""A stage from settings to checkpoint: resumed, accumulated, compiled or checkpointed alike."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from memory3_trainer.stages.callbacks import METRICS, read_metrics
from memory3_trainer.stages.module import StepReport
from memory3_trainer.stages.run import run_stage
from memory3_trainer.stages.settings import StageSettings
from safetensors.torch import load_file

from memory3.checkpoint import Checkpoint, save_checkpoint
from memory3.errors import CheckpointMismatchError, TrainingDivergedError
from tests.unit.trainer.stages.conftest import TINY, tiny
from tests.waiting import eventually


def weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Of a checkpoint."""
    return load_file(checkpoint.path / "model.safetensors")


def run(settings: StageSettings, data: Path, out: Path, **options: Any) -> Checkpoint:
    """A stage in one process, so that there is a checkpoint."""
    checkpoint = run_stage(settings, data, out, **options)
    assert checkpoint is not None
    return checkpoint


def losses(run: Path) -> list[float]:
    """Of every step."""
    return [row["loss"] for row in read_metrics(run)]


@pytest.fixture(scope="module")
def straight(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The tiny stage in one go."""
    return run(tiny(), data, tmp_path_factory.mktemp("straight") / "run", command="make it")


def test_a_stage_trains_on_every_kind_of_source(straight: Checkpoint) -> None:
    """Each source has its turn, and the checkpoint opens and tells what it was made of."""
    rows = read_metrics(straight.path.parent)
    assert [row["step"] for row in rows] == list(range(6))
    assert {row["source"] for row in rows} == set(TINY["sources"])
    assert rows[-1]["tokens_kept"] == 4
    reopened = Checkpoint.open(straight.path)
    (stage,) = reopened.manifest.provenance["stages"]
    assert (stage["name"], stage["command"]) == ("tiny", "make it")
    assert stage["curve"][-1]["step"] == 6
    assert reopened.config.memory.tokens_kept == 4
    assert reopened.config.memory.num_memory_layers == 1


class StoppedError(Exception):
    """Stands for whatever ends a run."""


def stop_at(step: int) -> Any:
    """Breaks a run off after a step."""

    def tell(report: StepReport, rate: float) -> None:
        if report.step == step:
            raise StoppedError

    return tell


@pytest.mark.parametrize("step", [0, 3, 4])
def test_a_run_goes_on_exactly_where_it_stopped(
    data: Path, tmp_path: Path, straight: Checkpoint, step: int
) -> None:
    """Before the first state, right at a state, or after it: same losses, same bytes."""
    out = tmp_path / "run"
    with pytest.raises(StoppedError):
        run_stage(tiny(), data, out, tell=stop_at(step))
    checkpoint = run(tiny(), data, out, command="make it")
    assert losses(out) == losses(straight.path.parent)
    assert checkpoint.digest == straight.digest


# The trainer's command, with time to be killed in after each step.
SLOWLY = """
import time
from memory3_trainer.cli import app
from memory3_trainer.stages.callbacks import RunKeeper
real = RunKeeper.on_train_batch_end
def slowly(*arguments):
    real(*arguments)
    time.sleep(0.1)
RunKeeper.on_train_batch_end = slowly
app()
"""


def test_a_killed_process_loses_only_the_steps_since_the_last_state(
    data: Path, tmp_path: Path
) -> None:
    """SIGKILL, then the same command: the run ends as one that was never killed."""
    lines = json.dumps({**TINY, "steps": 60, "save_every": 5})
    recipe = tmp_path / "stage.toml"
    recipe.write_text(as_toml(json.loads(lines)))
    options = [
        "train", str(recipe), "--data", str(data), "--accelerator", "cpu", "--out",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, *options, str(tmp_path / "killed")],
        stderr=subprocess.DEVNULL,
    )
    metrics = tmp_path / "killed" / METRICS
    assert eventually(lambda: metrics.is_file() and len(metrics.read_text().splitlines()) > 12, 120)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 12 < len(losses(tmp_path / "killed")) < 60
    command = [sys.executable, "-m", "memory3_trainer", *options]
    for name in ("killed", "whole"):
        subprocess.run([*command, str(tmp_path / name)], check=True, capture_output=True)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_accumulated_batches_learn_as_one_large_batch(data: Path, tmp_path: Path) -> None:
    """Two batches of four windows are one of eight."""
    source = {"kind": "text", "share": 1, "pack": "pack", "length": 64}
    once = tiny(sources={"text": {**source, "batch_size": 8}}, steps=3)
    twice = tiny(
        sources={"text": {**source, "batch_size": 4}},
        steps=3,
        optimizer={"warmup": 2, "accumulate": 2},
    )
    # Windows of a step are the same ones: 0 to 7 of the same order, since batches follow.
    one = run(once, data, tmp_path / "once")
    two = run(twice, data, tmp_path / "twice")
    assert losses(tmp_path / "once") == pytest.approx(losses(tmp_path / "twice"), rel=1e-5)
    for name, part in weights(one).items():
        torch.testing.assert_close(weights(two)[name], part, rtol=1e-3, atol=2e-4)


def test_activation_checkpointing_changes_nothing(
    data: Path, tmp_path: Path, straight: Checkpoint
) -> None:
    """It trades time for memory, no more."""
    run_stage(tiny(checkpoint_activations=True), data, tmp_path / "run")
    expected = losses(straight.path.parent)
    assert losses(tmp_path / "run") == pytest.approx(expected, rel=1e-5)


# torch's own compiler still imports what torch calls deprecated.
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_compiled_run_goes_on_and_learns_the_same(data: Path, tmp_path: Path) -> None:
    """Compiled for real, stopped and taken up: the losses are those of the plain model."""
    text = {"kind": "text", "share": 1, "pack": "pack", "batch_size": 2, "length": 64}
    run_stage(tiny(sources={"text": text}, steps=3), data, tmp_path / "plain")
    settings = tiny(sources={"text": text}, steps=3, save_every=1, compile=True)
    with pytest.raises(StoppedError):
        run_stage(settings, data, tmp_path / "compiled", tell=stop_at(1))
    kept = load_file(tmp_path / "compiled" / "state" / "model.safetensors")
    compiled = run(settings, data, tmp_path / "compiled")
    assert kept.keys() == weights(compiled).keys()
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-4)


def test_detached_memories_teach_the_writer_nothing(
    data: Path, tmp_path: Path, straight: Checkpoint
) -> None:
    """The ablation takes another way than training with gradients through the writer."""
    settings = tiny(selection={**TINY["selection"], "detach": True})
    run_stage(settings, data, tmp_path / "run")
    attached = losses(straight.path.parent)
    assert losses(tmp_path / "run")[0] == pytest.approx(attached[0])
    assert losses(tmp_path / "run")[-1] != pytest.approx(attached[-1], rel=1e-6)


def test_a_stage_starts_from_the_checkpoint_of_another(
    data: Path, tmp_path: Path, straight: Checkpoint
) -> None:
    """Its history is kept, its tokens kept may change, and its weights are where it begins."""
    before = straight.path.parent
    settings = tiny(start=str(before), steps=1, model={"tokens_kept": 6, "selector": "value-norm"})
    checkpoint = run(settings, data, tmp_path / "next")
    names = [stage["name"] for stage in checkpoint.manifest.provenance["stages"]]
    assert names == ["tiny", "tiny"]
    assert checkpoint.manifest.provenance["stages"][1]["started_from"] == straight.digest
    assert checkpoint.config.memory.tokens_kept == 6
    assert checkpoint.config.memory.selector == "value-norm"
    assert losses(tmp_path / "next")[0] < losses(before)[0]


def test_preferences_move_towards_what_was_chosen(
    data: Path, tmp_path: Path, straight: Checkpoint
) -> None:
    """The first loss is log 2, since nothing has moved yet, and it falls."""
    settings = tiny(
        stage="dpo", start=str(straight.path), steps=8, beta=0.5, model={},
        optimizer={"name": "adamw", "kind": "cosine", "learning_rate": 1e-2, "warmup": 1},
        selection={},
        sources={"pairs": {"kind": "preferences", "share": 1, "files": ["preferences.jsonl"],
                           "batch_size": 6}},
    )  # fmt: skip
    run_stage(settings, data, tmp_path / "run")
    found = losses(tmp_path / "run")
    assert found[0] == pytest.approx(0.6931, abs=1e-3)
    assert found[-1] < 0.5


def test_validation_is_measured_and_not_trained_on(data: Path, tmp_path: Path) -> None:
    """At the steps asked for and at the end, with losses that fall."""
    text = {"kind": "text", "share": 1, "pack": "pack", "batch_size": 4, "length": 64}
    settings = tiny(
        sources={"text": text},
        steps=20,
        validation={"every": 8, "batches": 2, "sources": {"text": {**text, "length": 32}}},
    )
    run_stage(settings, data, tmp_path / "run")
    measured = {
        row["step"] + 1: row["validation"]["text"]
        for row in read_metrics(tmp_path / "run")
        if "validation" in row
    }
    assert list(measured) == [8, 16, 20]
    assert measured[20] < measured[8]


def test_a_spike_stops_the_run_and_the_last_good_state_stays(data: Path, tmp_path: Path) -> None:
    """A loss a twentieth above the median counts as one here, so that one comes by itself."""
    text = {"kind": "text", "share": 1, "pack": "pack", "batch_size": 2, "length": 64}
    settings = tiny(
        sources={"text": text}, steps=60, save_every=1,
        optimizer={"name": "adamw", "learning_rate": 0.9, "warmup": 20},
        guard={"factor": 1.05, "patience": 1, "window": 3},
    )  # fmt: skip
    with pytest.raises(TrainingDivergedError) as raised:
        run_stage(settings, data, tmp_path / "run")
    stopped = int(raised.value.metadata["step"])
    state = json.loads((tmp_path / "run" / "state" / "state.json").read_text())
    assert stopped >= 3
    assert state["step"] == stopped == len(losses(tmp_path / "run"))
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_a_loss_that_is_no_number_updates_nothing(
    data: Path, tmp_path: Path, straight: Checkpoint
) -> None:
    """A checkpoint with an infinite weight stops at its first step."""
    broken = {name: part.clone() for name, part in weights(straight).items()}
    broken["norm.weight"][0] = float("inf")
    folder = straight.embedder_dir
    assert folder is not None
    save_checkpoint(
        tmp_path / "broken",
        config=straight.config,
        state_dict=broken,
        tokenizer=straight.tokenizer,
        embedder_files={file.name: file.read_bytes() for file in folder.iterdir()},
        provenance={},
        scores={},
    )
    with pytest.raises(TrainingDivergedError, match="step 0: loss nan"):
        run_stage(tiny(start=str(tmp_path / "broken"), model={}), data, tmp_path / "run")
    assert losses(tmp_path / "run") == []


def test_another_stage_does_not_go_on_with_a_state(
    data: Path, tmp_path: Path, straight: Checkpoint
) -> None:
    """Other settings are refused by name; fresh begins again."""
    out = tmp_path / "run"
    run_stage(tiny(steps=1, save_every=1), data, out)
    with pytest.raises(CheckpointMismatchError, match="another recipe"):
        run_stage(tiny(steps=1, save_every=1, seed=2), data, out)
    run_stage(tiny(steps=1, save_every=1, seed=2), data, out, fresh=True)


def as_toml(values: dict[str, Any], prefix: str = "") -> str:
    """Nested values as TOML."""
    plain = {k: v for k, v in values.items() if not isinstance(v, dict)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in plain.items()]
    text = "\n".join(([f"[{prefix}]"] if prefix else []) + lines) + "\n"
    for name, value in values.items():
        if isinstance(value, dict):
            text += as_toml(value, f"{prefix}.{name}" if prefix else name)
    return text
