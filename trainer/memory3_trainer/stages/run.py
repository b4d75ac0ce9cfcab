"""Runs a stage: from settings and a data folder to a checkpoint, going on where it stopped.

RUN/  stage.json  metrics.jsonl  state/  checkpoint/
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from memory3.checkpoint import Checkpoint, save_checkpoint
from memory3.errors import RequestCancelledError
from memory3_trainer.allocator import keep_freed_memory
from memory3_trainer.data.sources import Mixture, Share
from memory3_trainer.stages.batch import MemoryBatch
from memory3_trainer.stages.callbacks import RunKeeper, Tell, curve_of, read_metrics
from memory3_trainer.stages.feed import StepFeed
from memory3_trainer.stages.guard import DivergenceGuard
from memory3_trainer.stages.module import StageModule
from memory3_trainer.stages.objectives import NextToken, Objective, Preference
from memory3_trainer.stages.schedule import make_schedule
from memory3_trainer.stages.settings import StageSettings
from memory3_trainer.stages.sources import SourceMaker, data_digest
from memory3_trainer.stages.start import CHECKPOINT, Start, start_from
from memory3_trainer.stages.state import (
    STATE,
    RunState,
    find_state,
    load_optimizers,
    load_weights,
)
from memory3_trainer.stages.stopping import StopRequest


@dataclass(frozen=True)
class Machines:
    """Where a stage runs, in Lightning's words.

    Attributes:
        accelerator: ``cpu``, ``gpu`` or ``auto``.
        devices: Of each node.
        strategy: ``auto``, ``ddp``, ``fsdp`` or another that Lightning knows.
        num_nodes: Machines.
    """

    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    num_nodes: int = 1


def run_stage(
    settings: StageSettings,
    data: Path,
    out: Path,
    *,
    machines: Machines | None = None,
    command: str = "",
    fresh: bool = False,
    tell: Tell = lambda report, rate: None,
) -> Checkpoint | None:
    """Train a stage to its end.

    Args:
        settings: What is trained.
        data: Folder that the settings name files in.
        out: Folder of the run; a run of the same settings and data goes on.
        machines: Where it runs.
        command: What to type to repeat it, for the manifest.
        fresh: Begin again even if there is a state.
        tell: Told about every step.

    Returns:
        The checkpoint in the run's folder; None in every process but the first.

    Raises:
        InvalidArgumentError: Settings or files do not fit.
        CheckpointMismatchError: The folder holds another run, or files of another tokenizer.
        TrainingDivergedError: The loss left the rails; the last good state is on disk.
        RequestCancelledError: A SIGTERM came; the state of the last step is on disk.
    """
    keep_freed_memory()
    machines = machines or Machines()
    start = start_from(settings, data)
    recipe = _recipe_digest(settings, data, start)
    is_first = getattr(rank_zero_only, "rank", 0) == 0  # known before there is a trainer
    if fresh and is_first:
        shutil.rmtree(out / STATE, ignore_errors=True)
    state = find_state(out, recipe) or RunState(0, recipe)
    model = start.model.train().requires_grad_(True)
    objective = _objective(settings, start)
    if state.step:
        model.load_state_dict(load_weights(out))
    model.checkpoint_activations = settings.checkpoint_activations
    if is_first:
        out.mkdir(parents=True, exist_ok=True)
        read_metrics(out, before=state.step)
        (out / "stage.json").write_text(settings.model_dump_json(indent=2), encoding="utf-8")
    maker = SourceMaker(data, model.config, start.tokenizer, start.embedder, settings.seed)
    stop = StopRequest()
    keeper = _keeper(settings, maker, out, recipe, tell, stop)
    trainer = _trainer(settings, machines, [keeper, _Resume(out, state.step)])
    module = StageModule(
        model, make_schedule(settings),
        DivergenceGuard(**settings.guard.model_dump(), losses=state.losses),
        optimizer=settings.optimizer.name, clip=settings.optimizer.clip,
        detach=settings.selection.detach, noise=settings.selection.noise,
        objective=objective, compile=settings.compile,
    )  # fmt: skip
    if state.step < settings.steps:
        feed = _Feed(settings, maker, state.step, stop)
        with stop.heard(trainer):
            trainer.fit(module, datamodule=feed)
    if not trainer.is_global_zero:
        return None
    if keeper.stopped_after is not None:
        raise RequestCancelledError(
            f"stopped by a signal after step {keeper.stopped_after} of {settings.steps}",
            remedy="the same command goes on from the last state",
        )
    return export(settings, start, model, out, command=command)


def export(
    settings: StageSettings, start: Start, model: torch.nn.Module, out: Path, *, command: str
) -> Checkpoint:
    """Write the checkpoint of a run; its manifest tells of this stage and those before."""
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[settings.dtype]
    told = {
        "name": settings.name,
        "command": command,
        "started_from": start.digest,
        "settings": settings.model_dump(mode="json", exclude_defaults=True),
        "curve": curve_of(read_metrics(out)),
    }
    return save_checkpoint(
        out / CHECKPOINT,
        config=start.model.config,
        state_dict={name: part.to(dtype) for name, part in model.state_dict().items()},
        tokenizer=start.tokenizer,
        embedder_files=start.embedder_files,
        provenance={"command": command, "stages": [*start.history, told]},
        scores={},
    )


class _Feed(lightning.LightningDataModule):
    """Makes the sources in each process, with its own share of every batch."""

    def __init__(
        self, settings: StageSettings, maker: SourceMaker, start: int, stop: StopRequest
    ) -> None:
        super().__init__()
        self._settings, self._maker, self._start, self._stop = settings, maker, start, stop

    def train_dataloader(self) -> DataLoader[Any]:
        """The steps that are left."""
        settings, trainer = self._settings, self.trainer
        assert trainer is not None
        self._stop.take_over()
        sources = {name: self._maker.make(name, own) for name, own in settings.sources.items()}
        mixture = Mixture(sources, {name: own.share for name, own in settings.sources.items()})
        feed = StepFeed(
            mixture,
            accumulate=settings.optimizer.accumulate,
            start=self._start,
            stop=settings.steps,
            share=Share(trainer.global_rank, trainer.world_size),
        )
        return DataLoader(feed, batch_size=None, num_workers=0)


class _Resume(lightning.Callback):
    """Takes up the states of the optimisers, whatever the strategy did to them."""

    def __init__(self, run: Path, step: int) -> None:
        self._run, self._step = run, step

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if self._step:
            strategy = trainer.strategy
            fresh = [optimizer.state_dict() for optimizer in strategy.optimizers]
            strategy.load_optimizer_state_dict(
                {"optimizer_states": load_optimizers(self._run, fresh)}
            )


def _keeper(
    settings: StageSettings,
    maker: SourceMaker,
    out: Path,
    recipe: str,
    tell: Tell,
    stop: StopRequest,
) -> RunKeeper:
    validation: dict[str, list[MemoryBatch]] = {}
    asked = settings.validation
    # Every process measures everything with one process's eyes: sums are divided by the number.
    for name, own in asked.sources.items() if asked else ():
        source = maker.make(name, own)
        assert asked is not None
        validation[name] = [source.batch(number, Share()) for number in range(asked.batches)]
    return RunKeeper(
        out, recipe, steps=settings.steps, save_every=settings.save_every,
        validation=validation, validate_every=asked.every if asked else settings.steps, tell=tell,
        stop=stop,
    )  # fmt: skip


def _trainer(
    settings: StageSettings, machines: Machines, callbacks: list[lightning.Callback]
) -> lightning.Trainer:
    # What Lightning has to say at every start is advertising, or what was asked for.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    return lightning.Trainer(
        accelerator=machines.accelerator,
        devices=machines.devices,
        strategy=machines.strategy,
        num_nodes=machines.num_nodes,
        precision=settings.precision,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=callbacks,
    )


def _objective(settings: StageSettings, start: Start) -> Objective:
    if settings.stage != "dpo":
        return NextToken()
    return Preference(copy.deepcopy(start.model), settings.beta)


def _recipe_digest(settings: StageSettings, data: Path, start: Start) -> str:
    everything = {
        # How often states are kept and how a model is run changes nothing that is learnt.
        "settings": settings.model_dump(
            mode="json", exclude={"save_every", "compile", "checkpoint_activations", "start"}
        ),
        "data": data_digest(data, settings.sources),
        "start": start.digest,
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
