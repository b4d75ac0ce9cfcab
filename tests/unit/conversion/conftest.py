"""One tiny Qwen3 directory that every test may copy and spoil."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.huggingface import save_model


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sharded model directory; not to be changed."""
    path = tmp_path_factory.mktemp("sources") / "sound"
    save_model(path, "qwen3", head_dim=16, max_shard_size="60KB")
    return path


@pytest.fixture
def source(sound: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(sound, tmp_path / "source"))


def edit(path: Path, name: str = "config.json", **changes: Any) -> None:
    """Change fields of a JSON file; ... removes one."""
    values = json.loads((path / name).read_text())
    values |= changes
    values = {key: value for key, value in values.items() if value is not ...}
    (path / name).write_text(json.dumps(values))


def edit_weights(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the weights of the first shard."""
    file = min(path.glob("model-*.safetensors"))
    weights = load_file(file)
    change(weights)
    save_weights(weights, file)


def save_weights(weights: dict[str, Any], file: Path) -> None:
    """As a model's own library saves them."""
    save_file(weights, file, metadata={"format": "pt"})
