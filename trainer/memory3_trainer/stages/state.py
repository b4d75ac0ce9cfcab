"""The state of a run on disk, from which it goes on exactly where it stopped.

    state/  model.safetensors  optimizer.safetensors  state.json

Written beside its place, then exchanged whole, so that a kill at any moment leaves the old state or
the new one. No pickle. Batches are functions of their number (`memory3_trainer.data.sources`) and
the model draws nothing, so the number of the step is all there is to remember besides tensors.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from memory3.errors import CheckpointMismatchError, CorruptDataError

_MODEL, _OPTIMIZER, _FACTS = "model.safetensors", "optimizer.safetensors", "state.json"
STATE, _OLD = "state", "state.old"


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    Attributes:
        step: Steps of the optimiser that are done.
        recipe: Digest of everything that fixes the run.
        losses: The last losses of each source, for the guard against divergence.
    """

    step: int
    recipe: str
    losses: Mapping[str, Sequence[float]] = field(default_factory=dict)


def save_state(
    run: Path,
    state: RunState,
    model: Mapping[str, Tensor],
    optimizers: Sequence[Mapping[str, Any]],
) -> None:
    """Keep a state; the one before stays until the new one is whole.

    Args:
        run: Folder of the run.
        state: Where it stands.
        model: Weights by name.
        optimizers: State dicts of the optimisers.
    """
    staged = run / "state.new"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    save_file({name: part.detach().contiguous() for name, part in model.items()}, staged / _MODEL)
    save_file(_tensors(optimizers), staged / _OPTIMIZER)
    facts = {"step": state.step, "recipe": state.recipe, "losses": dict(state.losses)}
    (staged / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
    for file in staged.iterdir():
        _sync(file)
    shutil.rmtree(run / _OLD, ignore_errors=True)
    if (run / STATE).exists():
        (run / STATE).rename(run / _OLD)
    staged.rename(run / STATE)
    _sync(run)
    shutil.rmtree(run / _OLD, ignore_errors=True)


def find_state(run: Path, recipe: str) -> RunState | None:
    """The state of a run, or None where there is none.

    Raises:
        CheckpointMismatchError: It is the state of another recipe.
        CorruptDataError: It cannot be read.
    """
    if not (run / STATE).exists() and (run / _OLD).exists():
        (run / _OLD).rename(run / STATE)  # killed between the two renames
    path = run / STATE / _FACTS
    if not path.is_file():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        state = RunState(int(facts["step"]), str(facts["recipe"]), dict(facts["losses"]))
    except (ValueError, KeyError, TypeError) as error:
        raise _broken(run, _FACTS) from error
    if state.recipe != recipe:
        raise CheckpointMismatchError(
            f"{run.name} holds the state of another recipe or of other data",
            field="out",
            remedy="give another --out, or --fresh to begin again",
            metadata={"expected": recipe, "actual": state.recipe},
        )
    return state


def load_weights(run: Path) -> dict[str, Tensor]:
    """The weights of a state that `find_state` has found.

    Raises:
        CorruptDataError: They cannot be read.
    """
    return _load(run, _MODEL)


def load_optimizers(run: Path, optimizers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """State dicts of the optimisers of a state that `find_state` has found.

    Args:
        run: Folder of the run.
        optimizers: State dicts of fresh optimisers, which give the groups.

    Raises:
        CorruptDataError: They cannot be read.
    """
    stored = _load(run, _OPTIMIZER)
    states: list[dict[int | str, dict[str, Any]]] = [{} for _ in optimizers]
    for key, tensor in stored.items():
        owner, parameter, name = key.split("|")
        place = int(parameter) if parameter.isdigit() else parameter
        states[int(owner)].setdefault(place, {})[name] = tensor
    return [
        {"state": state, "param_groups": fresh["param_groups"]}
        for state, fresh in zip(states, optimizers, strict=True)
    ]


def _load(run: Path, name: str) -> dict[str, Tensor]:
    try:
        return load_file(run / STATE / name)
    except (OSError, SafetensorError) as error:
        raise _broken(run, name) from error


def _broken(run: Path, name: str) -> CorruptDataError:
    return CorruptDataError(
        f"{run.name}/{STATE}/{name} cannot be read", field=name, remedy="start the run anew"
    )


def _tensors(optimizers: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    return {
        f"{number}|{parameter}|{name}": torch.as_tensor(value).detach().contiguous()
        for number, optimizer in enumerate(optimizers)
        for parameter, values in optimizer["state"].items()
        for name, value in values.items()
    }


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
