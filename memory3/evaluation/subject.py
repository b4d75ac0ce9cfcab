"""What is examined: a checkpoint's model, tokenizer, embedder and codec, loaded without services.

It must not know questions or conditions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from memory3.checkpoint import Checkpoint
from memory3.codecs.base import Codec
from memory3.codecs.loading import load_codec
from memory3.embedders.base import Embedder
from memory3.embedders.loading import load_embedder
from memory3.memory.tensors import MemoryTensors
from memory3.memory.writer import to_envelope
from memory3.model.config import ModelConfig
from memory3.model.placement import check_device, choose_dtype
from memory3.model.transformer import Transformer


@dataclass(frozen=True)
class Subject:
    """A loaded checkpoint.

    Attributes:
        checkpoint: The directory.
        model: In evaluation mode; its configuration says how memories are made.
        embedder: Finds references.
        codec: What memories go through before they are read.
        num_tokens: Tokens of the tokenizer; logits past them are padding and never chosen.
    """

    checkpoint: Checkpoint
    model: Transformer
    embedder: Embedder
    codec: Codec
    num_tokens: int

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        codec: str = "raw",
        embedder: str | None = None,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> Subject:
        """Load a checkpoint.

        Args:
            path: The directory.
            codec: Name of the codec.
            embedder: Name of the embedder with argument; None for the one of the checkpoint.
            dtype: float32, bfloat16 or auto.
            device: Such as cpu or cuda.

        Raises:
            CheckpointError: The checkpoint cannot be used.
            PluginError: Codec or embedder cannot be loaded.
            SettingsError: The device is not there.
        """
        checkpoint = Checkpoint.open(path)
        finds = load_embedder(embedder, checkpoint.embedder_dir)
        place = check_device(device)
        model = checkpoint.load_model(dtype=choose_dtype(dtype, place), device=device, packed=True)
        num_tokens = 1 + max(checkpoint.tokenizer.get_vocab().values())
        return cls(checkpoint, model, finds, load_codec(codec, checkpoint.codec_file), num_tokens)

    @property
    def config(self) -> ModelConfig:
        """The shape of the model and of its memories."""
        return self.model.config

    @property
    def bytes_per_reference(self) -> int:
        """The size of one memory with its envelope."""
        layers, _, heads, kept, width = self.config.memory_shape
        zeros = torch.zeros(layers, heads, kept, width)
        positions = torch.zeros(layers, heads, kept, dtype=torch.int16)
        memory = MemoryTensors(zeros, zeros, positions, kept)
        return len(to_envelope(memory, self.codec, self.checkpoint.digest))

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""
        ids: list[int] = self.checkpoint.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def with_codec(self, name: str) -> Subject:
        """The same with another codec."""
        return replace(self, codec=load_codec(name, self.checkpoint.codec_file))

    def with_memory(self, **changes: Any) -> Subject:
        """The same weights with another shape of memories.

        Args:
            changes: Fields of `MemoryConfig`.

        Raises:
            InvalidArgumentError: A field is out of range.
        """
        memory = replace(self.config.memory, **changes)
        return replace(self, model=self.model.with_memory(memory))
