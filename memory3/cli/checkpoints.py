"""What the commands about a checkpoint share. Light: imports nothing heavy before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from memory3.checkpoint import Checkpoint

PathArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="DIR",
        help="The checkpoint.",
        show_default="MEMORY3_CHECKPOINT, else checkpoints/small",
    ),
]


def opened(path: Path | None, *, verify: bool) -> Checkpoint:
    """The checkpoint at a path, or the one that is meant without a path.

    Args:
        path: What was given.
        verify: See `Checkpoint.open`.
    """
    from memory3.checkpoint import Checkpoint
    from memory3.cli.places import default_checkpoint

    return Checkpoint.open(path or default_checkpoint(), verify=verify)


def require_torch() -> None:
    """Refuse to go on where torch is not installed: clients and the retriever do without it.

    Raises:
        PluginNotFoundError: It is not.
    """
    from importlib.util import find_spec

    from memory3.errors import PluginNotFoundError

    if find_spec("torch") is None:
        raise PluginNotFoundError(
            "this command needs torch, which is not installed",
            field="torch",
            remedy="pip install 'memory3[encoder]'",
        )
