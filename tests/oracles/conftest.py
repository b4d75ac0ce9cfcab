"""Models small enough for the loops of the plain transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from memory3.memory.tensors import MemoryTensors
from memory3.memory.writer import MemoryWriter
from memory3.model.config import ModelConfig
from memory3.model.transformer import Transformer
from memory3.testing.checkpoints import tiny_config, tiny_model
from tests.oracles.plain_transformer import PlainTransformer


@dataclass
class Kit:
    """A model, its plain twin and a writer."""

    config: ModelConfig
    model: Transformer
    plain: PlainTransformer
    writer: MemoryWriter

    @classmethod
    def of(cls, **changes: Any) -> Kit:
        """A tiny random model with fields of its configuration changed."""
        config = tiny_config(**changes)
        model = tiny_model(config, seed=7)
        return cls(config, model, PlainTransformer(model, config), MemoryWriter(model, config))

    def tokens(self, number: int, seed: int) -> list[int]:
        """Random ordinary tokens."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(5, self.config.vocab_size, (number,), generator=generator).tolist()

    def memories(self, *lengths: int, seed: int = 100) -> list[MemoryTensors]:
        """Memories of random references of these lengths."""
        return self.writer.write(
            [self.tokens(length, seed + place) for place, length in enumerate(lengths)]
        )


@pytest.fixture(scope="session")
def kit() -> Kit:
    """Four layers, two of them memory layers; chunks of 16 tokens, 3 references each."""
    return Kit.of(chunk_length=16, references_per_chunk=3, reference_length=32, context_length=128)
