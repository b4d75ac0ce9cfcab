"""Trained codebooks: close to what they were trained on, repeatable, blind to what is not there."""

from __future__ import annotations

import pytest
import torch
from memory3_trainer.quantiser.settings import QuantiserSettings
from memory3_trainer.quantiser.training import train_codebooks

from memory3.codecs.codebooks import Codebooks
from memory3.codecs.opq import OpqCodec
from memory3.errors import InvalidArgumentError

NUM = 60
SETTINGS = QuantiserSettings(16, coarse_bits=5, num_parts=4, fine_bits=5, rotation_steps=3)
KEPT = torch.tensor([4, 3] * (NUM // 2))


def _memories(seed: int) -> torch.Tensor:
    """[V, L, 2, K, N, D] of 2 layers and 3 heads, each with a mean and a size of its own."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(NUM, 2, 2, 3, 4, 16, generator=generator)
    fixed = torch.Generator().manual_seed(99)
    values = values @ torch.randn(2, 1, 3, 16, 16, generator=fixed)
    return values * torch.tensor([1.0, 100.0]).view(2, 1, 1, 1) + 5


def _error(books: Codebooks, values: torch.Tensor) -> float:
    codec = OpqCodec(books)
    cpu = torch.device("cpu")
    decoded = torch.stack(
        [codec.decode(codec.encode(v), tuple(v.shape), dtype=v.dtype, device=cpu) for v in values]
    )
    spread = values - values.mean((0, 4), keepdim=True)
    over = (0, 2, 3, 4, 5)
    return float(((decoded - values).square().sum(over) / spread.square().sum(over)).max())


@pytest.fixture(scope="module")
def books() -> Codebooks:
    """Trained on one draw."""
    return train_codebooks(_memories(0), KEPT, SETTINGS)


def test_unseen_memories_come_back_close(books: Codebooks) -> None:
    """Both layers, though one is a hundred times as large; rounding as stored costs nothing."""
    values = _memories(1)
    error = _error(books, values)
    assert error < 0.35
    assert _error(books.rounded(), values) == pytest.approx(error, rel=0.02)


def test_a_quantiser_for_each_layer_comes_closer(books: Codebooks) -> None:
    """The layers here have nothing in common, so one for both has to share its centroids."""
    each = QuantiserSettings(
        16, coarse_bits=5, num_parts=4, fine_bits=5, rotation_steps=3, per_layer=True
    )
    per_layer = train_codebooks(_memories(0), KEPT, each)
    assert per_layer.rotation.shape == (2, 2, 16, 16)
    assert _error(per_layer, _memories(1)) < _error(books, _memories(1))


def test_the_same_seed_gives_the_same_codebooks(books: Codebooks) -> None:
    """So that a checkpoint can be made again."""
    again = train_codebooks(_memories(0), KEPT, SETTINGS)
    assert again.to_bytes() == books.to_bytes()


def test_what_short_references_leave_empty_teaches_nothing(books: Codebooks) -> None:
    """Tokens past those kept do not matter, whatever stands there."""
    values = _memories(0)
    values[1::2, :, :, :, 3] = 1e6
    assert train_codebooks(values, KEPT, SETTINGS).to_bytes() == books.to_bytes()


def test_the_rotation_turns_and_does_not_stretch(books: Codebooks) -> None:
    """Orthonormal, so that an error is as large after turning back."""
    product = books.rotation @ books.rotation.mT
    torch.testing.assert_close(product, torch.eye(16).expand_as(product), atol=1e-4, rtol=0)


def test_too_few_vectors_are_refused() -> None:
    """Fewer than centroids: no codebook can be learnt from them."""
    few = _memories(0)[:1]
    with pytest.raises(InvalidArgumentError, match="24 vectors") as caught:
        train_codebooks(few, KEPT[:1], SETTINGS)
    assert caught.value.field == "num_references"


def test_progress_is_told() -> None:
    """How many of how many quantisers are done."""
    told: list[tuple[int, int]] = []
    train_codebooks(_memories(0), KEPT, SETTINGS, lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
