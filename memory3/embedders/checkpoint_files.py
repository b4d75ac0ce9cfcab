"""The files of the checkpoint embedder: what it is, and the weights of its pooling.

    checkpoint.json          dimensions, tokens that count, share of the lexical vector
    projection.safetensors   gate and projection of `memory3.model.pooling.Pooling`

The lexical embedder's files lie beside them. Torch comes in where weights are read or written. It
must not know how texts are embedded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from memory3.embedders.loading import DEFAULT_FILE, default_name
from memory3.errors import CheckpointFormatError, CheckpointMissingFileError
from memory3.manifest import EMBEDDER

if TYPE_CHECKING:
    from memory3.model.pooling import Pooling

NAME = "checkpoint"
CONFIG_FILE = "checkpoint.json"
POOLING_FILE = "projection.safetensors"

_FORMAT = 1
_MAX_COUNT = 65_536


@dataclass(frozen=True)
class CheckpointEmbedderConfig:
    """What ``checkpoint.json`` says.

    Attributes:
        dimensions: Length of the model's part of a vector.
        width: Width of the model.
        max_tokens: Tokens of a text that count.
        lexical_share: What the lexical vector counts for in an inner product, 0 to below 1.
    """

    dimensions: int
    width: int
    max_tokens: int
    lexical_share: float

    def to_bytes(self) -> bytes:
        """The file."""
        values = {"format": _FORMAT, "kind": NAME, **vars(self)}
        return (json.dumps(values, indent=2) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the file.

        Raises:
            CheckpointFormatError: It says something that cannot be.
        """
        try:
            values = json.loads(data)
        except ValueError as error:
            raise broken(CONFIG_FILE, f"it is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise broken(CONFIG_FILE, "it is not a JSON object")
        if values.get("format") != _FORMAT:
            raise broken(CONFIG_FILE, f"format is {values.get('format')!r:.80}, not {_FORMAT}")
        counts = []
        for name in ("dimensions", "width", "max_tokens"):
            count = values.get(name)
            if type(count) is not int or not 1 <= count <= _MAX_COUNT:
                raise broken(CONFIG_FILE, f"{name} is {count!r:.80}")
            counts.append(count)
        share = values.get("lexical_share")
        if not isinstance(share, int | float) or isinstance(share, bool) or not 0.0 <= share < 1.0:
            raise broken(CONFIG_FILE, f"lexical_share is {share!r:.80}, not from 0 to below 1")
        return cls(counts[0], counts[1], counts[2], float(share))


def checkpoint_files(
    pooling: Pooling, *, max_tokens: int, lexical_share: float
) -> dict[str, bytes]:
    """The files of a checkpoint's ``embedder/`` directory, beside those of the lexical embedder.

    Args:
        pooling: What was trained.
        max_tokens: Tokens of a text that count.
        lexical_share: What the lexical vector counts for, 0 to below 1.
    """
    from safetensors.torch import save

    dimensions, width = pooling.projection.shape
    config = CheckpointEmbedderConfig(dimensions, width, max_tokens, lexical_share)
    tensors = {name: part.detach().contiguous() for name, part in pooling.state_dict().items()}
    return {CONFIG_FILE: config.to_bytes(), POOLING_FILE: save(tensors)}


def outlasting_files(embedder_dir: Path) -> dict[str, bytes]:
    """The files of a checkpoint's ``embedder/`` directory that outlast a change of its weights.

    A pooling of hidden states fits the weights that it was trained on, so it is left out, with the
    word that makes it the default.

    Raises:
        CheckpointFormatError: What the checkpoint says of its default cannot be read.
    """
    left_out = {CONFIG_FILE, POOLING_FILE}
    if default_name(embedder_dir) == NAME:
        left_out.add(DEFAULT_FILE)
    files = sorted(embedder_dir.iterdir())
    return {file.name: file.read_bytes() for file in files if file.name not in left_out}


def load_pooling(data: bytes, config: CheckpointEmbedderConfig) -> Pooling:
    """The weights of ``projection.safetensors``, in evaluation mode.

    Raises:
        CheckpointFormatError: They cannot be read or do not fit the configuration.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from memory3.model.pooling import Pooling

    pooling = Pooling(config.width, config.dimensions)
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise broken(POOLING_FILE, f"it is no safetensors file: {error}") from error
    expected = {name: part.shape for name, part in pooling.state_dict().items()}
    if {name: part.shape for name, part in tensors.items()} != expected:
        raise broken(POOLING_FILE, f"it does not hold {expected}")
    if not all(part.dtype == torch.float32 and part.isfinite().all() for part in tensors.values()):
        raise broken(POOLING_FILE, "it holds something else than finite float32")
    pooling.load_state_dict(tensors)
    return pooling.eval().requires_grad_(False)


def read_file(directory: Path | None, name: str) -> bytes:
    """One file of a checkpoint's ``embedder/`` directory.

    Raises:
        CheckpointMissingFileError: It, or the directory, is not there.
    """
    path = directory / name if directory is not None else None
    if path is None or not path.is_file():
        raise CheckpointMissingFileError(
            f"the checkpoint has no {EMBEDDER}/{name}, which the checkpoint embedder needs",
            field=f"{EMBEDDER}/{name}",
            remedy="train it: python -m memory3_trainer embedder, or name another embedder",
        )
    return path.read_bytes()


def broken(name: str, message: str) -> CheckpointFormatError:
    """The error about a file that is there but cannot be used."""
    return CheckpointFormatError(
        f"{EMBEDDER}/{name} cannot be used: {message}",
        field=f"{EMBEDDER}/{name}",
        remedy="copy the checkpoint again, or train its embedder again",
    )
