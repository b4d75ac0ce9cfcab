"""Rotation: relative, without length change, and the half-split form."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from memory3.model.rope import apply_rope, rope_table
from tests.strategies import seeds

positions = st.integers(0, 4096)


def _rotated(vector: torch.Tensor, position: int) -> torch.Tensor:
    return apply_rope(vector[None], rope_table(torch.tensor([position]), 16, 10_000.0))[0]


@given(first=positions, second=positions, shift=positions, seed=seeds)
def test_products_depend_on_the_distance_alone(
    first: int, second: int, shift: int, seed: int
) -> None:
    """Moving query and key together changes no attention logit."""
    q, k = torch.randn(2, 16, generator=torch.Generator().manual_seed(seed))
    near = _rotated(q, first) @ _rotated(k, second)
    far = _rotated(q, first + shift) @ _rotated(k, second + shift)
    torch.testing.assert_close(near, far, rtol=1e-3, atol=1e-2)


@given(position=positions, seed=seeds)
def test_lengths_stay(position: int, seed: int) -> None:
    """A rotation changes no norm, which is why selectors by norm need no positions."""
    vector = torch.randn(16, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(_rotated(vector, position).norm(), vector.norm())


def test_position_zero_rotates_nothing() -> None:
    """The first token keeps its heads."""
    vector = torch.arange(16.0)
    torch.testing.assert_close(_rotated(vector, 0), vector)


def test_dimension_i_turns_with_dimension_i_plus_half() -> None:
    """The half-split pairing of Llama and Qwen, at the rate base^(-2i/D)."""
    vector = torch.zeros(16)
    vector[3] = 1.0
    expected = torch.zeros(16)
    angle = 5 * 10_000.0 ** (-6 / 16)
    expected[3], expected[3 + 8] = math.cos(angle), math.sin(angle)
    torch.testing.assert_close(_rotated(vector, 5), expected)


def test_a_table_for_each_sequence_equals_one_by_one() -> None:
    """Positions [B, 1, T] rotate every sequence by its own."""
    heads = torch.randn(2, 3, 4, 16, generator=torch.Generator().manual_seed(0))
    each = torch.tensor([[0, 1, 2, 3], [70, 71, 72, 900]])
    together = apply_rope(heads, rope_table(each[:, None], 16, 10_000.0))
    for row in range(2):
        alone = apply_rope(heads[row], rope_table(each[row], 16, 10_000.0))
        torch.testing.assert_close(together[row], alone)
