"""The two ways to attend are one: the fused kernel and the plain products for training."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from memory3.model.attention import Attention, as_bias
from memory3.model.rope import apply_rope
from memory3.testing.checkpoints import tiny_config, tiny_model


def _attention(num_kv_heads: int) -> Attention:
    return tiny_model(tiny_config(num_kv_heads=num_kv_heads)).layers[0].attention


def _heads(num_kv_heads: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(2, 4, 5, 16, generator=generator),
        torch.randn(2, num_kv_heads, 9, 16, generator=generator),
        torch.randn(2, num_kv_heads, 9, 16, generator=generator),
    )


def _mask() -> Tensor:
    mask = torch.rand(5, 9, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[:, 0] = True
    return mask


@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_training_attends_as_inference_does(num_kv_heads: int, kind: str) -> None:
    """With gradients or without, a mask of either kind hides the same columns."""
    attention, mask = _attention(num_kv_heads), _mask()
    given = mask if kind == "bool" else as_bias(mask, torch.float32)
    q, k, v = _heads(num_kv_heads)
    inference = attention.attend(q, k, v, given)
    training = attention.attend(q.requires_grad_(), k, v, given)
    assert training.requires_grad
    torch.testing.assert_close(training, inference, rtol=1e-4, atol=1e-5)


def test_a_hidden_column_changes_nothing() -> None:
    """What the mask hides may hold anything that is finite, in both ways to attend."""
    attention, mask = _attention(2), _mask()
    mask[:, 4] = False
    q, k, v = _heads(2)
    other_k, other_v = k.clone(), v.clone()
    other_k[:, :, 4], other_v[:, :, 4] = 100.0, -100.0
    for queries in (q, q.clone().requires_grad_()):
        expected = attention.attend(queries, k, v, mask)
        actual = attention.attend(queries, other_k, other_v, mask)
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_weights_are_those_that_attention_uses() -> None:
    """The reported probabilities give, times the values, what attention gave."""
    attention, mask = _attention(2), _mask()
    q, k, v = _heads(2)
    weights = attention.weights(q, k, mask)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 5))
    assert (weights[:, :, ~mask] == 0).all()
    out = weights @ v.repeat_interleave(2, dim=1)
    expected = attention.attend(q, k, v, mask)
    torch.testing.assert_close(attention.output(out), expected, rtol=1e-4, atol=1e-5)


def test_a_float_bias_gets_a_gradient() -> None:
    """Selection learns through the bias, so attention must pass it a gradient."""
    bias = torch.zeros(1, 1, 5, 9, requires_grad=True)
    q, k, v = _heads(2)
    _attention(2).attend(q.requires_grad_(), k, v, bias).square().sum().backward()
    assert bias.grad is not None
    assert bias.grad.abs().max() > 0


def test_selection_sees_normalised_heads() -> None:
    """With norms on queries and keys, the unrotated heads are rotated ones but for positions."""
    config = tiny_config(qk_norm=True, attention_bias="qkv")
    model = tiny_model(config)
    table = model.rope(torch.arange(6) + 40)
    x = 9 * torch.randn(1, 6, config.width, generator=torch.Generator().manual_seed(2))
    heads = model.layers[0].attention.project(x, table)
    for rotated, plain in (
        (heads.queries, heads.queries_unrotated),
        (heads.keys, heads.keys_unrotated),
    ):
        torch.testing.assert_close(apply_rope(plain, table), rotated)
        # The fresh norm has weight one, so every head has the mean square one.
        torch.testing.assert_close(plain.square().mean(-1), torch.ones(plain.shape[:-1]))
