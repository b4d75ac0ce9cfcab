"""Where the command line looks for a checkpoint and keeps data and logs, unless told otherwise."""

from __future__ import annotations

import os
from pathlib import Path

from memory3.errors import InvalidArgumentError

BUNDLED = "checkpoints/small"


def default_checkpoint() -> Path:
    """The checkpoint of ``MEMORY3_CHECKPOINT``, else the one in the source tree.

    Raises:
        InvalidArgumentError: There is neither.
    """
    named = os.environ.get("MEMORY3_CHECKPOINT")
    if named:
        return Path(named)
    source_tree = Path(__file__).resolve().parents[2]
    for folder in (source_tree, Path.cwd()):
        if (folder / BUNDLED / "config.json").is_file():
            return folder / BUNDLED
    raise InvalidArgumentError(
        "there is no checkpoint to load",
        field="checkpoint",
        remedy="give --checkpoint DIR or set MEMORY3_CHECKPOINT; the source tree has "
        f"{BUNDLED}, which docs/training.md says how to train",
    )


def data_folder() -> Path:
    """Where banks are kept: ``MEMORY3_DATA``, else the user's data folder."""
    return _folder("MEMORY3_DATA", "XDG_DATA_HOME", ".local/share")


def state_folder() -> Path:
    """Where logs are kept: ``MEMORY3_STATE``, else the user's state folder."""
    return _folder("MEMORY3_STATE", "XDG_STATE_HOME", ".local/state")


def _folder(own: str, base: str, fallback: str) -> Path:
    if os.environ.get(own):
        return Path(os.environ[own])
    return Path(os.environ.get(base) or Path.home() / fallback) / "memory3"
