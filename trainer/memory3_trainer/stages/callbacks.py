"""What happens between steps: metrics, measurements, and states on disk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from memory3_trainer.stages.batch import MemoryBatch
from memory3_trainer.stages.module import StageModule, StepReport
from memory3_trainer.stages.state import RunState, save_state
from memory3_trainer.stages.stopping import StopRequest

METRICS = "metrics.jsonl"
Tell = Callable[[StepReport, float], None]
"""Told the report of a step and tokens per second."""


class RunKeeper(Callback):
    """Writes metrics, measures, and keeps states.

    Args:
        run: Folder of the run.
        recipe: Digest of what fixes the run.
        steps: Steps in all.
        save_every: Steps between states.
        validation: Batches to measure by source.
        validate_every: Steps between measurements.
        tell: Told about every step.
        stop: Asked between steps.

    Attributes:
        stopped_after: Steps done when the run was told to stop; None if it was not.
    """

    def __init__(
        self,
        run: Path,
        recipe: str,
        *,
        steps: int,
        save_every: int,
        validation: dict[str, list[MemoryBatch]],
        validate_every: int,
        tell: Tell,
        stop: StopRequest,
    ) -> None:
        self.stopped_after: int | None = None
        self._run, self._recipe, self._steps = run, recipe, steps
        self._save_every, self._validation = save_every, validation
        self._validate_every, self._tell, self._stop = validate_every, tell, stop
        self._since = time.perf_counter()

    def on_train_batch_start(
        self, trainer: Trainer, module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock of a step."""
        self._stop.begin()
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write, measure and keep."""
        assert isinstance(module, StageModule)
        report = module.report
        assert report is not None
        rate = report.num_tokens / max(1e-9, time.perf_counter() - self._since)
        done = report.step + 1
        row: dict[str, Any] = {**asdict(report), "tokens_per_second": round(rate, 1)}
        if self._validation and (done % self._validate_every == 0 or done == self._steps):
            row["validation"] = module.measure(self._validation, report.step)
        if trainer.is_global_zero:
            with (self._run / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            self._tell(report, rate)
        stopping = module.summed(float(self._stop.told)) > 0
        due = stopping or done % self._save_every == 0 or done == self._steps
        if module.guard.calm and due:
            self._keep(trainer, module, done)
        if stopping and done < self._steps:
            self.stopped_after, trainer.should_stop = done, True

    def _keep(self, trainer: Trainer, module: StageModule, done: int) -> None:
        strategy = trainer.strategy
        whole = strategy.lightning_module_state_dict()
        optimizers = [strategy.optimizer_state(optimizer) for optimizer in strategy.optimizers]
        if trainer.is_global_zero:
            weights = {name.removeprefix("model."): part for name, part in whole.items()}
            state = RunState(done, self._recipe, module.guard.losses)
            save_state(self._run, state, weights, optimizers)
        strategy.barrier()


def read_metrics(run: Path, before: int | None = None) -> list[dict[str, Any]]:
    """The rows of a run's metrics; those of steps from `before` on are dropped from the file.

    A run that goes on from a state repeats the steps after it. A line cut short by a kill is
    dropped as well.
    """
    path = run / METRICS
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if before is None or row["step"] < before:
            rows.append(row)
    if before is not None:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return rows


def curve_of(rows: list[dict[str, Any]], points: int = 100) -> list[dict[str, Any]]:
    """Means over equal stretches of steps: what a manifest keeps of the metrics."""
    if not rows:
        return []
    size = max(1, -(-len(rows) // points))
    curve = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        by_source: dict[str, list[float]] = {}
        for row in part:
            by_source.setdefault(row["source"], []).append(row["loss"])
        point: dict[str, Any] = {"step": part[-1]["step"] + 1}
        point["loss"] = {n: round(sum(v) / len(v), 4) for n, v in sorted(by_source.items())}
        if part[-1]["tokens_kept"] is not None:
            point["tokens_kept"] = part[-1]["tokens_kept"]
        measured = [row["validation"] for row in part if "validation" in row]
        if measured:
            point["validation"] = {name: round(v, 4) for name, v in measured[-1].items()}
        curve.append(point)
    return curve
