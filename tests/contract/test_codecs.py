"""Every registered codec against the contract of its family."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from memory3_trainer.quantiser.settings import QuantiserSettings
from memory3_trainer.quantiser.training import train_codebooks

from memory3 import plugins
from memory3.codecs.base import Codec, Shape
from memory3.codecs.loading import load_codec
from memory3.codecs.opq import OpqCodec
from memory3.testing.codecs import CodecContract

# Needs codebooks, so it has a run of its own below.
TRAINED = "opq"


class TestRegisteredCodecs(CodecContract):
    """One run of the suite for each entry point that works without a checkpoint."""

    name: str

    @pytest.fixture(autouse=True, params=sorted({*plugins.names("codecs")} - {TRAINED}))
    def _choose(self, request: pytest.FixtureRequest) -> None:
        self.name = request.param

    def make(self) -> Codec:
        """The codec that the entry point names."""
        return load_codec(self.name, None)

    def test_it_is_registered_under_its_own_name(self, codec: Codec) -> None:
        """The name in an envelope finds the codec again."""
        assert self.name == codec.name


class TestOpqCodec(CodecContract):
    """The suite with codebooks trained on key-values of the kind that is then encoded."""

    tolerance = 0.7  # 6 of 64 bytes; two unrelated vectors of this kind differ by 1.5 and more
    shapes = ((2, 2, 3, 8, 32), (2, 2, 3, 1, 32), (2, 2, 3, 40, 32))

    def make(self) -> Codec:
        """Coded with the codebooks that every call trains alike."""
        return _trained()

    def example(self, shape: Shape, seed: int = 0) -> torch.Tensor:
        """Vectors of layers and heads that differ in mean and size."""
        return _example(shape, seed)

    def test_it_is_registered_under_its_own_name(self, codec: Codec) -> None:
        """The name in an envelope finds the codec again."""
        assert plugins.load("codecs", TRAINED) is type(codec)
        assert codec.name == TRAINED


def _example(shape: Shape, seed: int) -> torch.Tensor:
    layers, pair, heads, _, width = shape
    fixed = torch.Generator().manual_seed(1234)
    mean = torch.randn(layers, pair, heads, 1, width, generator=fixed)
    size = torch.exp(torch.randn(layers, pair, heads, 1, 1, generator=fixed))
    mixing = torch.randn(width, width, generator=fixed) / width**0.5
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return (drawn @ mixing + mean) * size


@cache
def _trained() -> OpqCodec:
    values = torch.stack([_example((2, 2, 3, 8, 32), 100 + seed) for seed in range(60)])
    settings = QuantiserSettings(head_dim=32, coarse_bits=8, fine_bits=8, rotation_steps=3)
    return OpqCodec(train_codebooks(values, torch.full((60,), 8), settings))
