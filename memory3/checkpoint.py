"""The one contract between trainer and services: a directory with weights, tokenizer and digest.

    config.json         shape of model and memories
    model.safetensors   weights
    tokenizer.json      Hugging Face tokenizers
    embedder/           files of the embedder
    codec.safetensors   codebooks of the quantiser, where one was trained
    manifest.json       format version, sha256 of every file, digest, provenance, scores

Every bank, memory and cache key carries the digest, so memories of two checkpoints never mix.
Nothing here imports torch before `load_model`, and nothing ever unpickles: only safetensors and
JSON are read, and a file that the manifest does not name is refused.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from memory3.codecs.codebook_shapes import check_codebook_shapes
from memory3.errors import (
    CheckpointFormatError,
    CheckpointMissingFileError,
    CheckpointShapeError,
    InvalidArgumentError,
)
from memory3.manifest import (
    CODEC,
    CONFIG,
    EMBEDDER,
    MANIFEST,
    TOKENIZER,
    WEIGHTS,
    Manifest,
    digest_of,
    read_json,
    read_manifest,
    sha256_of,
    verify_files,
)
from memory3.model.config import ModelConfig
from memory3.model.shapes import expected_shapes

if TYPE_CHECKING:
    import torch

    from memory3.model.placement import Weights
    from memory3.model.transformer import Transformer
    from memory3.v1.memory_pb2 import CheckpointInfo

_WEIGHT_DTYPES = ("BF16", "F16", "F32")


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint directory.

    Attributes:
        path: The directory.
        config: Shape of the model.
        manifest: Hashes, provenance and scores.
    """

    path: Path
    config: ModelConfig
    manifest: Manifest

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verify: bool = True) -> Checkpoint:
        """Open a checkpoint and check that it is whole.

        Args:
            path: The directory.
            verify: Also hash every file and compare the shapes of weights and codebooks with the
                configuration.

        Raises:
            CheckpointMissingFileError: The directory or a file is not there.
            CheckpointFormatError: A file is not what its name says, or should not be there.
            CheckpointDigestError: A file is not the one the manifest was made for.
            CheckpointShapeError: A weight or codebook is missing, surplus or of another shape.
        """
        path = Path(path)
        if not path.is_dir():
            raise CheckpointMissingFileError(
                f"there is no checkpoint directory {path.name!r}",
                field="checkpoint",
                remedy="give the path of a directory that the trainer made",
            )
        manifest = read_manifest(path)
        if verify:
            verify_files(path, manifest)
        try:
            config = ModelConfig.from_dict(read_json(path, CONFIG))
        except InvalidArgumentError as error:
            raise CheckpointFormatError(
                error.message, field=f"{CONFIG}:{error.field}", remedy=error.remedy
            ) from error
        checkpoint = cls(path, config, manifest)
        if verify:
            checkpoint._verify_shapes()
            if checkpoint.codec_file is not None:
                shapes = _stored_shapes(checkpoint.codec_file)
                check_codebook_shapes(shapes, checkpoint.config.memory_shape)
        return checkpoint

    @property
    def digest(self) -> str:
        """64 hexadecimal digits that identify the checkpoint."""
        return self.manifest.digest

    @property
    def embedder_dir(self) -> Path:
        """The folder of the embedder's files."""
        return self.path / EMBEDDER

    @property
    def codec_file(self) -> Path | None:
        """The quantiser's codebooks; None where none was trained."""
        return self.path / CODEC if CODEC in self.manifest.files else None

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            CheckpointFormatError: `tokenizer.json` cannot be read.
            CheckpointShapeError: It has tokens that the model has no embeddings for.
        """
        try:
            tokenizer = Tokenizer.from_file(str(self.path / TOKENIZER))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointFormatError(
                "the tokenizer cannot be read",
                field=TOKENIZER,
                remedy="copy the checkpoint again, or train it again",
            ) from error
        num_tokens = 1 + max(tokenizer.get_vocab().values(), default=-1)  # ids may leave gaps
        if num_tokens > self.config.vocab_size:
            raise CheckpointShapeError(
                f"{num_tokens} tokens for {self.config.vocab_size} embeddings",
                field=f"{CONFIG}:vocab_size",
                remedy="pair the model with the tokenizer it was trained with",
            )
        # "</s>" in somebody's text is text: it must not end a reference or an answer.
        tokenizer.encode_special_tokens = True
        return tokenizer

    def load_model(
        self,
        *,
        dtype: torch.dtype,
        device: str = "cpu",
        writing_half: bool = False,
        packed: bool = False,
        weights: Weights = "full",
        row_bytes: int = 0,
    ) -> Transformer:
        """The model in evaluation mode. Imports torch.

        Args:
            dtype: Number format of the weights.
            device: Where they are put.
            writing_half: Only the layers that write memories (paper §3.4), for what needs no
                logits; the others are not read from disk, and there is no output matrix.
            packed: Its matrices packed for inference, where the device has such kernels; it cannot
                be trained or saved then.
            weights: Where packed: full, or rounded to eight bits.
            row_bytes: Most bytes of second copies of full packed matrices, for steps of one
                sequence.

        Raises:
            CheckpointFormatError: The weights are no safetensors file.
            CheckpointShapeError: They do not fit the configuration.
        """
        import torch
        from safetensors import safe_open

        from memory3.model.packing import pack
        from memory3.model.transformer import Transformer

        self._verify_shapes()  # a checkpoint may have been opened without
        config = self.config
        if writing_half:
            layers = config.memory.num_memory_layers
            config = replace(config, num_layers=layers, tie_embeddings=True)
        with torch.device("meta"):
            model = Transformer(config)
        with safe_open(self.path / WEIGHTS, framework="pt", device=device) as stored:
            tensors = {name: stored.get_tensor(name) for name in model.state_dict()}
        model.load_state_dict(tensors, strict=True, assign=True)
        model = model.to(dtype).eval().requires_grad_(False)
        if packed:
            pack(model, with_head=not writing_half, weights=weights, row_bytes=row_bytes)
        return model

    def info(self) -> CheckpointInfo:
        """The form that travels on the wire."""
        from memory3.v1.memory_pb2 import CheckpointInfo, MemoryLayout

        memory = self.config.memory
        return CheckpointInfo(
            digest=self.digest,
            name=self.config.name,
            num_parameters=self.config.num_parameters,
            memory_layout=MemoryLayout(
                num_memory_layers=memory.num_memory_layers,
                num_kv_heads=self.config.num_kv_heads,
                head_dim=self.config.head_dim,
                tokens_kept=memory.tokens_kept,
                reference_length=memory.reference_length,
                chunk_length=memory.chunk_length,
                references_per_chunk=memory.references_per_chunk,
            ),
        )

    def _verify_shapes(self) -> None:
        expected = expected_shapes(self.config)
        actual = _stored_shapes(self.path / WEIGHTS)
        for name in sorted(expected.keys() | actual.keys()):
            if expected.get(name) != actual.get(name):
                raise CheckpointShapeError(
                    f"the configuration wants {expected.get(name, 'no such weight')},"
                    f" the file has {actual.get(name, 'no such weight')}",
                    field=f"{WEIGHTS}:{name}",
                    remedy="pair the weights with the config.json they were trained with",
                )


def save_checkpoint(
    path: str | os.PathLike[str],
    *,
    config: ModelConfig,
    state_dict: Mapping[str, torch.Tensor] | Callable[[Path], None],
    tokenizer: Tokenizer,
    embedder_files: Mapping[str, bytes],
    provenance: Mapping[str, Any],
    scores: Mapping[str, Any],
    codec: bytes | None = None,
) -> Checkpoint:
    """Write a checkpoint beside its place, then move it there whole.

    Args:
        path: The directory to make, or a checkpoint to replace.
        config: Shape of the model.
        state_dict: The weights, or what writes them as safetensors to a path, for models that
            should not be in memory whole.
        tokenizer: Of the model.
        embedder_files: What goes into `embedder/`, by name.
        provenance: Where the weights come from, for the manifest.
        scores: Evaluation scores, for the manifest.
        codec: Content of `codec.safetensors`; None for a checkpoint without codebooks.

    Raises:
        InvalidArgumentError: The place is taken by something that is no checkpoint.
        CheckpointShapeError: The weights or codebooks do not fit the configuration.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if path.exists() and not (path / MANIFEST).is_file():
        raise InvalidArgumentError(
            f"{path.name!r} exists and is no checkpoint",
            field="path",
            remedy="give a new directory, so that nothing of yours is overwritten",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as temporary:
        staged = Path(temporary) / path.name
        (staged / EMBEDDER).mkdir(parents=True)
        (staged / CONFIG).write_text(_dump(config.to_dict()), encoding="utf-8")
        tokenizer.save(str(staged / TOKENIZER))
        if isinstance(state_dict, Mapping):
            tensors = {name: tensor.detach().contiguous() for name, tensor in state_dict.items()}
            save_file(tensors, staged / WEIGHTS)
        else:
            state_dict(staged / WEIGHTS)
        # The library writes for the owner alone; services often run as another user.
        shutil.copymode(staged / CONFIG, staged / WEIGHTS)
        for name, data in embedder_files.items():
            (staged / EMBEDDER / name).write_bytes(data)
        if codec is not None:
            (staged / CODEC).write_bytes(codec)
        files = {
            item.relative_to(staged).as_posix(): sha256_of(item)
            for item in sorted(staged.rglob("*"))
            if item.is_file()
        }
        manifest = Manifest(digest_of(files), files, dict(provenance), dict(scores))
        (staged / MANIFEST).write_text(_dump(manifest.to_dict()), encoding="utf-8")
        Checkpoint.open(staged)
        if path.exists():
            path.rename(Path(temporary) / "replaced")
        staged.rename(path)
    return Checkpoint.open(path)


def _stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    shapes = {}
    try:
        with safe_open(path, framework="np") as tensors:
            for name in tensors.keys():  # noqa: SIM118 -- no mapping
                part = tensors.get_slice(name)
                if part.get_dtype() not in _WEIGHT_DTYPES:
                    raise CheckpointShapeError(
                        f"tensors of type {part.get_dtype()} cannot be used",
                        field=f"{path.name}:{name}",
                        remedy=f"store them as one of {', '.join(_WEIGHT_DTYPES)}",
                    )
                shapes[name] = tuple(part.get_shape())
    except SafetensorError as error:
        raise CheckpointFormatError(
            f"{path.name} is no safetensors file",
            field=path.name,
            remedy="convert it; pickled weights are refused because loading them runs code",
        ) from error
    return shapes


def _dump(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
