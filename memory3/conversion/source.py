"""A Hugging Face model directory: its configuration, and its weights in one file or many.

Only JSON and safetensors are read. Nothing is loaded when a directory is opened; weights are read
by rows from the mapped files. It must not know families or checkpoints.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from safetensors import SafetensorError, safe_open

from memory3.errors import CheckpointFormatError, CheckpointMissingFileError, CheckpointShapeError
from memory3.model.adapters.fields import Fields

if TYPE_CHECKING:
    import torch

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_ROWS_BYTES = 64 << 20
_MAX_JSON = 64 << 20


@dataclass(frozen=True)
class SourceWeight:
    """Where a weight is.

    Attributes:
        file: The name of its file.
        shape: Its shape.
        dtype: Its number format as safetensors names it, such as ``BF16``.
    """

    file: str
    shape: tuple[int, ...]
    dtype: str


class SourceModel:
    """An opened model directory; use it as a context manager.

    Attributes:
        path: The directory.
        config: The fields of its ``config.json``.
        weights: All weights by name.

    Raises:
        CheckpointMissingFileError: The directory, or a file in it, is not there.
        CheckpointFormatError: A file is not what its name says, or holds pickled weights.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise CheckpointMissingFileError(
                f"there is no model directory {path.name!r}",
                field="HF_DIR",
                remedy="give the directory that holds the model's config.json and safetensors",
            )
        self.path = path
        self.config = Fields(read_object(path / "config.json"))
        self.weights: dict[str, SourceWeight] = {}
        self._stack = ExitStack()
        self._handles: dict[str, Any] = {}
        try:
            for name in self._files():
                self._open(name)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def rows(self, name: str) -> Iterator[torch.Tensor]:
        """The rows of a weight from the first, in parts of at most 64 MiB."""
        weight = self.weights[name]
        handle = self._handles[weight.file]
        if len(weight.shape) < 2:
            yield handle.get_tensor(name)
            return
        part = handle.get_slice(name)
        row_bytes = 8 * max(1, weight.shape[1])
        step = max(1, _ROWS_BYTES // row_bytes)
        for start in range(0, weight.shape[0], step):
            yield part[start : start + step]

    def _files(self) -> list[str]:
        if (self.path / SINGLE).is_file():
            return [SINGLE]
        if (self.path / INDEX).is_file():
            return self._shards()
        pickled = sorted(item.name for kind in _PICKLED for item in self.path.glob(kind))
        if pickled:
            raise CheckpointFormatError(
                "the weights may be pickled, and loading them would run their code",
                field=pickled[0],
                remedy="download the model's safetensors, or save it again with "
                "safe_serialization=True",
            )
        raise CheckpointMissingFileError(
            f"there is neither {SINGLE} nor {INDEX}",
            field=SINGLE,
            remedy="download the model's weights as safetensors",
        )

    def _shards(self) -> list[str]:
        places = read_object(self.path / INDEX).get("weight_map")
        if not isinstance(places, dict) or not places:
            raise _broken(INDEX, "weight_map is no object that names files")
        for name in places.values():
            if not isinstance(name, str) or Path(name).name != name:
                raise _broken(INDEX, f"weight_map names {name!r:.80}, which is no file beside it")
        shards = sorted(set(places.values()))
        for name in shards:
            if not (self.path / name).is_file():
                raise CheckpointMissingFileError(
                    f"there is no {name}, which {INDEX} names",
                    field=name,
                    remedy="download the missing file of the model",
                )
        return shards

    def _open(self, file: str) -> None:
        try:
            handle = self._stack.enter_context(safe_open(self.path / file, framework="pt"))
            for name in handle.keys():  # noqa: SIM118 -- no mapping
                if name in self.weights:
                    raise CheckpointShapeError(
                        f"{name} is also in {self.weights[name].file}",
                        field=f"{file}:{name}",
                        remedy="remove the shards of another download",
                    )
                part = handle.get_slice(name)
                shape = tuple(part.get_shape())
                self.weights[name] = SourceWeight(file, shape, part.get_dtype())
        except SafetensorError as error:
            raise _broken(file, f"it is no whole safetensors file: {error}") from error
        self._handles[file] = handle


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        CheckpointMissingFileError: There is no such file.
        CheckpointFormatError: It holds something else.
    """
    if not path.is_file():
        raise CheckpointMissingFileError(
            f"there is no {path.name}",
            field=path.name,
            remedy="download the whole model directory",
        )
    if path.stat().st_size > _MAX_JSON:
        raise _broken(path.name, f"it is larger than {_MAX_JSON} bytes")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _broken(path.name, f"it is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise _broken(path.name, "it is not a JSON object")
    return values


def _broken(name: str, message: str) -> CheckpointFormatError:
    return CheckpointFormatError(message, field=name, remedy="download the file again")
