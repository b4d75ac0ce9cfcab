"""Which embedder a checkpoint is searched with, and loading it: services and trainer alike.

A checkpoint names its own in ``embedder/embedder.json``; one without that file has the lexical
embedder, as all had before there was another. It must not know any one embedder, torch or banks.
"""

from __future__ import annotations

import json
from pathlib import Path

from memory3 import plugins
from memory3.embedders.base import Embedder
from memory3.errors import CheckpointFormatError

DEFAULT_FILE = "embedder.json"
DEFAULT_NAME = "lexical"
_FORMAT = 1


def default_file(name: str) -> dict[str, bytes]:
    """The file of a checkpoint's ``embedder/`` directory that makes an embedder its own."""
    return {DEFAULT_FILE: (json.dumps({"format": _FORMAT, "name": name}, indent=2) + "\n").encode()}


def default_name(embedder_dir: Path | None) -> str:
    """The embedder, with argument, that a checkpoint says is its own.

    Args:
        embedder_dir: The checkpoint's ``embedder/`` directory; None where there is none.

    Raises:
        CheckpointFormatError: What it says cannot be read.
    """
    path = embedder_dir / DEFAULT_FILE if embedder_dir is not None else None
    if path is None or not path.is_file():
        return DEFAULT_NAME
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise _broken("it is not JSON") from error
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise _broken(f"it is no JSON object with format {_FORMAT}")
    name = values.get("name")
    if not isinstance(name, str) or not name:
        raise _broken(f"name is {name!r:.80}")
    return name


def load_embedder(name: str | None, embedder_dir: Path | None) -> Embedder:
    """Load an embedder.

    Args:
        name: Such as ``lexical`` or ``sentence-transformers:PATH``; None or empty for the
            checkpoint's own.
        embedder_dir: The checkpoint's ``embedder/`` directory; None where there is none.

    Raises:
        Memory3Error: There is no such embedder, or its files cannot be used.
    """
    bare, argument = plugins.split_name(name or default_name(embedder_dir))
    embedder: Embedder = plugins.load("embedders", bare).from_checkpoint(embedder_dir, argument)
    return embedder


def _broken(message: str) -> CheckpointFormatError:
    return CheckpointFormatError(
        f"embedder/{DEFAULT_FILE} cannot be used: {message}",
        field=f"embedder/{DEFAULT_FILE}",
        remedy="copy the checkpoint again, or name an embedder",
    )
