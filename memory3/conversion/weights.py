"""Weights on their way from a source to ``model.safetensors``: planned, then streamed by rows.

The plan is checked against the configuration before a byte is written. The safetensors library
writes only what is in memory whole; its format, a header of names and offsets before the bytes, is
simple enough to write as a stream, so that no more than 64 MiB are held however large the model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch

from memory3.conversion.options import KEEP
from memory3.conversion.source import SourceModel, SourceWeight
from memory3.errors import CheckpointFormatError, CheckpointShapeError, InvalidArgumentError
from memory3.model.adapters.base import Adapter
from memory3.model.config import ModelConfig
from memory3.model.shapes import expected_shapes

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
_NAMES = {KEEP: None, "bfloat16": "BF16", "float32": "F32"}
# Tables that the model computes itself; older files carry them along.
_COMPUTED = (".rotary_emb.inv_freq", ".masked_bias", ".attn.bias")

Progress = Callable[[int, int], None]
"""Told how many bytes are written, and of how many."""


@dataclass(frozen=True)
class PlannedWeight:
    """One weight of the checkpoint.

    Attributes:
        name: Its name in the checkpoint.
        source: Its name in the source.
        shape: Its shape.
        dtype: Its number format in the checkpoint, as safetensors names it.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def num_bytes(self) -> int:
        """Bytes it takes."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


def plan(
    source: SourceModel, adapter: Adapter, config: ModelConfig, dtype: str
) -> list[PlannedWeight]:
    """Which weight of the source becomes which of the checkpoint, in the order of writing.

    Args:
        source: The model directory.
        adapter: Its family.
        config: The checkpoint's configuration.
        dtype: ``keep``, ``bfloat16`` or ``float32``.

    Raises:
        CheckpointShapeError: A weight is missing, surplus, or of another shape or number format.
    """
    planned, used = [], set()
    for name, shape in expected_shapes(config).items():
        their = adapter.source_name(name)
        found = source.weights.get(their)
        if found is None:
            raise CheckpointShapeError(
                f"there is no weight {their}",
                field=f"{source.path.name}:{their}",
                remedy="download the whole model, with its language-model head",
            )
        if found.shape != shape:
            raise CheckpointShapeError(
                f"config.json wants {shape}, the file has {found.shape}",
                field=f"{found.file}:{their}",
                remedy="pair the weights with the config.json they were trained with",
            )
        used.add(their)
        planned.append(PlannedWeight(name, their, shape, _dtype(their, found, dtype)))
    _refuse_surplus(source, used, adapter.source_name("head.weight"), config)
    # The widest numbers first, so that every weight begins at a multiple of its numbers' size;
    # then file by file, so that each is read once from its beginning to its end.
    return sorted(
        planned,
        key=lambda w: (-DTYPES[w.dtype].itemsize, source.weights[w.source].file, w.source),
    )


def write(
    path: Path, planned: list[PlannedWeight], source: SourceModel, on_progress: Progress
) -> None:
    """Write the planned weights to a safetensors file.

    Raises:
        CheckpointFormatError: A weight holds a number that is not finite.
        InvalidArgumentError: The file cannot be written.
    """
    total, done = sum(weight.num_bytes for weight in planned), 0
    try:
        with path.open("wb") as file:
            _write_header(file, planned)
            for weight in planned:
                for rows in source.rows(weight.source):
                    part = rows.to(DTYPES[weight.dtype]).contiguous()
                    if not bool(torch.isfinite(part).all()):
                        raise CheckpointFormatError(
                            "it holds numbers that are not finite",
                            field=f"{source.weights[weight.source].file}:{weight.source}",
                            remedy="download the file again, or train the model again",
                        )
                    file.write(part.view(torch.uint8).numpy().data)
                    done += part.nbytes
                    on_progress(done, total)
    except OSError as error:
        raise InvalidArgumentError(
            f"the weights cannot be written: {error.strerror}",
            field="OUT",
            remedy=f"give a place with room for {total:,} bytes",
        ) from error


def _write_header(file: IO[bytes], planned: list[PlannedWeight]) -> None:
    header: dict[str, object] = {}
    start = 0
    for weight in planned:
        header[weight.name] = {
            "dtype": weight.dtype,
            "shape": weight.shape,
            "data_offsets": (start, start + weight.num_bytes),
        }
        start += weight.num_bytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    file.write(len(encoded).to_bytes(8, "little") + encoded)


def _dtype(name: str, found: SourceWeight, dtype: str) -> str:
    target = _NAMES[dtype] or found.dtype
    if found.dtype not in (*DTYPES, "F64") or target not in DTYPES:
        raise CheckpointShapeError(
            f"numbers of type {found.dtype} cannot be {'kept' if dtype == KEEP else 'converted'}",
            field=f"{found.file}:{name}",
            remedy="convert with --dtype float32"
            if found.dtype == "F64"
            else f"take a model stored as one of {', '.join(DTYPES)}",
        )
    return target


def _refuse_surplus(source: SourceModel, used: set[str], head: str, config: ModelConfig) -> None:
    for name in sorted(source.weights.keys() - used):
        if name.endswith(_COMPUTED) or (config.tie_embeddings and name == head):
            continue
        raise CheckpointShapeError(
            f"nothing in a model of this config.json is called {name}",
            field=f"{source.weights[name].file}:{name}",
            remedy="pair the weights with the config.json they were trained with; adapters must "
            "be merged first",
        )
