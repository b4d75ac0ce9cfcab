"""Embedders of the sentence-transformers library: ``sentence-transformers:<name or path>``.

A path is read from disk alone; a name is looked for where that library keeps its models and is
downloaded by it if it is not there. Code that a model brings along is never run, and pickled
weights are refused. It must not know banks or checkpoints.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from memory3.embedders.base import Embedder, TextKind, Vectors, check_kind, unit_rows
from memory3.errors import InvalidArgumentError, PluginError, PluginNotFoundError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PLUGIN = "sentence-transformers"
_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_BATCH = 32


class SentenceTransformersEmbedder(Embedder):
    """Wraps a loaded model; make one with ``from_checkpoint``.

    Args:
        name: The plugin's name with its argument.
        model: In evaluation mode. If it has prompts for queries or documents, they are used.
    """

    def __init__(self, name: str, model: SentenceTransformer) -> None:
        dimensions = model.get_embedding_dimension()
        if not dimensions:
            raise PluginError(
                f"{name} does not say how long its vectors are",
                field="embedder",
                remedy="choose a model that ends in a pooling layer",
            )
        self.name = name
        self.dimensions = int(dimensions)
        self.digest = _digest(model)
        self._model = model

    @classmethod
    def from_checkpoint(cls, embedder_dir: Path | None, argument: str | None) -> Self:
        """Load the model that the argument names; the checkpoint's own embedder is not used.

        Args:
            embedder_dir: Not used.
            argument: The name or the path of a model.

        Raises:
            InvalidArgumentError: There is no argument.
            PluginNotFoundError: The library is not installed.
            PluginError: The model cannot be loaded.
        """
        if not argument:
            raise InvalidArgumentError(
                "sentence-transformers needs the name or the path of a model",
                field="embedder",
                remedy="write sentence-transformers:NAME_OR_PATH",
            )
        load = _library()
        path = Path(argument)
        is_local = path.is_dir()
        if is_local:
            _refuse_pickle(path)
        try:
            model = load(
                argument,
                local_files_only=is_local,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except Exception as error:  # the library lets through whatever its parts raise
            raise PluginError(
                f"the model {path.name!r} cannot be loaded: {error}",
                field="embedder",
                remedy="give the directory of a sentence-transformers model with safetensors "
                "weights, or a name that can be downloaded",
            ) from error
        # A path may tell about the machine, and names travel to every client.
        return cls(f"{PLUGIN}:{path.name if is_local else argument}", model.eval())

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """See ``Embedder.embed``; a text past the model's window is cut by its tokenizer."""
        check_kind(kind)
        if not texts:
            return np.zeros((0, self.dimensions), np.float32)
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        vectors: Any = encode(list(texts), batch_size=_BATCH, show_progress_bar=False)
        return unit_rows(np.array(vectors, np.float32, order="C"))


def _library() -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise PluginNotFoundError(
            "the sentence-transformers library is not installed",
            field="embedders",
            remedy="pip install 'memory3[sentence-transformers]'",
            metadata={"module": error.name or PLUGIN},
        ) from error
    return SentenceTransformer


def _refuse_pickle(directory: Path) -> None:
    for path in sorted(directory.rglob("*")):
        if path.suffix in _PICKLED and not any(path.parent.glob("*.safetensors")):
            raise PluginError(
                f"{path.relative_to(directory)} may be pickled, and loading it would run its code",
                field="embedder",
                remedy="save the model again with safe_serialization=True",
            )


def _digest(model: SentenceTransformer) -> str:
    """A hash of all that the vectors depend on: weights, tokenizer, prompts, layers, window."""
    whole = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().float().cpu().contiguous().numpy()
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        whole.update(values.tobytes())
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    shape = {
        "layers": [[type(layer).__name__, _config_of(layer)] for layer in model],
        "prompts": dict(model.prompts),
        "max_length": model.max_seq_length,
        "tokenizer": json.loads(backend.to_str()) if backend is not None else None,
    }
    whole.update(json.dumps(shape, sort_keys=True, default=str).encode())
    return whole.hexdigest()


def _config_of(layer: Any) -> Any:
    read = getattr(layer, "get_config_dict", None)
    return read() if callable(read) else None
