"""The choice that training makes: hard it is that of inference, soft it can be taught."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory3_trainer.soft_selection import selection_bias

from memory3.memory.selectors.base import select
from tests.strategies import seeds

LENGTHS = torch.tensor([20, 12, 9, 8, 3])
VALID = torch.arange(20) < LENGTHS[:, None]


def _scores(seed: int) -> torch.Tensor:
    """Scores that differ clearly, so that no order hangs on rounding."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.stack([torch.randperm(20, generator=generator) for _ in range(10)])
    return places.view(5, 2, 20).float() - 7.5


@given(seed=seeds, count=st.integers(1, 25))
def test_the_hard_choice_is_that_of_inference(seed: int, count: int) -> None:
    """Exactly the tokens that `select` keeps have no bias, all others are hidden."""
    scores = _scores(seed)
    bias = selection_bias(scores, VALID, count=count, temperature=0.1, hard=True)
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept.scatter_(-1, select(scores, VALID, min(count, 20)), True)
    kept &= VALID[:, None]
    assert torch.equal(bias == 0, kept)
    assert torch.equal(bias == float("-inf"), ~kept)


@given(seed=seeds, count=st.integers(1, 19))
def test_the_soft_choice_nears_the_hard_one(seed: int, count: int) -> None:
    """As the temperature falls, the bias of what is kept goes to nothing, that of the rest down."""
    scores = _scores(seed)
    hard = selection_bias(scores, VALID, count=count, temperature=1.0, hard=True)
    soft = selection_bias(scores, VALID, count=count, temperature=1e-3, hard=False)
    kept = hard == 0
    assert (soft[kept] > -1e-3).all()
    assert (soft[~kept] < -10).all()
    assert (soft[~VALID[:, None].expand_as(soft)] == float("-inf")).all()


def _gradient(*, hard: bool) -> torch.Tensor:
    scores = _scores(3).requires_grad_()
    bias = selection_bias(scores, VALID, count=8, temperature=0.5, hard=hard)
    shown = bias[bias.isfinite()]
    (gradient,) = torch.autograd.grad((shown * torch.linspace(1, 2, len(shown))).sum(), scores)
    return gradient


def test_a_soft_choice_teaches_every_token() -> None:
    """What is dropped gets a gradient as well as what is kept, wherever there is a choice."""
    gradient = _gradient(hard=False)
    assert torch.isfinite(gradient).all()
    for row, length in enumerate(LENGTHS.tolist()):
        if length > 8:
            assert (gradient[row, :, :length] != 0).all()


def test_a_hard_choice_teaches_what_it_keeps() -> None:
    """The gradient is that of the soft choice, though the forward pass is hard."""
    gradient = _gradient(hard=True)
    assert torch.isfinite(gradient).all()
    assert (gradient[:2] != 0).any()


def test_padding_gets_no_gradient() -> None:
    """What stands behind a reference teaches nothing."""
    for hard in (False, True):
        gradient = _gradient(hard=hard)
        assert (gradient[~VALID[:, None].expand_as(gradient)] == 0).all()


@given(seed=seeds, scale=st.sampled_from([1e-3, 1.0, 1e3]), shift=st.sampled_from([-50.0, 0, 50.0]))
def test_the_scale_of_the_scores_does_not_matter(seed: int, scale: float, shift: float) -> None:
    """A model cannot soften its choice by shrinking its scores."""
    scores = _scores(seed)
    expected = selection_bias(scores, VALID, count=8, temperature=0.5, hard=False)
    actual = selection_bias(scale * scores + shift, VALID, count=8, temperature=0.5, hard=False)
    shown = VALID[:2, None].expand(2, 2, 20)  # longer than what is kept, so there is a choice
    torch.testing.assert_close(actual[:2][shown], expected[:2][shown], rtol=0.05, atol=0.05)


def test_keeping_all_hides_only_padding() -> None:
    """With a count of all there is no choice and no bias."""
    bias = selection_bias(_scores(0), VALID, count=20, temperature=0.5, hard=False)
    shown = VALID[:, None].expand_as(bias)
    assert (bias[shown] == 0).all()
    assert (bias[~shown] == float("-inf")).all()


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("length", [1, 12])
def test_equal_scores_give_finite_gradients(hard: bool, length: int) -> None:
    """A reference of one token, or of one token over and over, must not spoil a step."""
    scores = torch.ones(1, 1, 12, requires_grad=True)
    valid = torch.arange(12)[None] < length
    bias = selection_bias(scores, valid, count=8, temperature=0.5, hard=hard)
    (gradient,) = torch.autograd.grad(bias[bias.isfinite()].sum(), scores)
    assert torch.isfinite(gradient).all()


@given(data=st.data(), count=st.integers(1, 19))
def test_ties_are_broken_as_inference_breaks_them(data: st.DataObject, count: int) -> None:
    """Repeated tokens score alike in the first layer; exactly as many are kept, the earlier."""
    levels = data.draw(st.lists(st.integers(-2, 2), min_size=20, max_size=20))
    scores = torch.tensor(levels, dtype=torch.float32)[None, None]
    valid = torch.ones(1, 20, dtype=torch.bool)
    bias = selection_bias(scores, valid, count=count, temperature=0.1, hard=True)
    actual = (bias[0, 0] == 0).nonzero()[:, 0].tolist()
    assert actual == select(scores, valid, count)[0, 0].tolist()
