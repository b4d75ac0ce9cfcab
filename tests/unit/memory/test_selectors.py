"""Each selector against its rule written out naively, and the choice against sorting by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from memory3 import plugins
from memory3.memory.selectors.attention import AttentionSelector
from memory3.memory.selectors.base import ReferenceStates, select
from memory3.memory.selectors.random import RandomSelector
from memory3.model.rope import apply_rope, rope_table
from tests.strategies import reference_states, seeds


def _attention(states: ReferenceStates, row: int, head: int, length: int) -> list[float]:
    """w_j = Σ_i softmax_j(q_i·k_j/√d), every i and j of the reference, all heads of the group."""
    groups = states.queries.shape[1] // states.keys.shape[1]
    keys, width = states.keys[row, head].double(), states.keys.shape[-1]
    received = [0.0] * length
    for query_head in range(head * groups, (head + 1) * groups):
        for i in range(length):
            query = states.queries[row, query_head, i].double()
            logits = [float(query @ keys[j]) / math.sqrt(width) for j in range(length)]
            top = max(logits)
            exponentials = [math.exp(logit - top) for logit in logits]
            for j in range(length):
                received[j] += exponentials[j] / sum(exponentials)
    return received


def _first(states: ReferenceStates, row: int, head: int, length: int) -> list[float]:
    return [-float(place) for place in range(length)]


def _key_norm(states: ReferenceStates, row: int, head: int, length: int) -> list[float]:
    return [-math.dist([0] * states.keys.shape[-1], k) for k in states.keys[row, head, :length]]


def _value_norm(states: ReferenceStates, row: int, head: int, length: int) -> list[float]:
    return [math.dist([0] * states.keys.shape[-1], v) for v in states.values[row, head, :length]]


Rule = Callable[[ReferenceStates, int, int, int], list[float]]
RULES: dict[str, Rule] = {
    "attention": _attention,
    "first": _first,
    "key-norm": _key_norm,
    "value-norm": _value_norm,
}


def test_every_selector_has_a_rule_here() -> None:
    """A new built-in needs a naive twin; the lot of `random` has tests of its own."""
    assert set(plugins.names("selectors")) == {*RULES, "random"}


@pytest.mark.parametrize("name", RULES)
@given(states=reference_states(max_tokens=10))
def test_scores_order_as_the_rule_does(name: str, states: ReferenceStates) -> None:
    """Whatever the scale of the scores, the order of any two tokens is the rule's."""
    scores = plugins.load("selectors", name)().scores(states)
    for row, length in enumerate(states.valid.sum(-1).tolist()):
        for head in range(states.keys.shape[1]):
            expected = torch.tensor(RULES[name](states, row, head, length), dtype=torch.float64)
            actual = scores[row, head, :length].double()
            clear = expected[:, None] - expected[None, :] > 1e-4 * (1 + expected.abs().max())
            assert (actual[:, None] > actual[None, :])[clear].all()


@given(states=reference_states(max_tokens=10))
def test_attention_scores_are_the_logarithm_of_the_weight(states: ReferenceStates) -> None:
    """Not only the order: w_j itself, summed over the query heads of the group."""
    scores = AttentionSelector().scores(states)
    groups = states.queries.shape[1] // states.keys.shape[1]
    for row, length in enumerate(states.valid.sum(-1).tolist()):
        for head in range(states.keys.shape[1]):
            expected = torch.tensor(_attention(states, row, head, length))
            actual = scores[row, head, :length].exp()
            torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-5)
            # Normalised: every query of every head of the group gives away exactly one.
            assert float(actual.sum()) == pytest.approx(groups * length, rel=1e-4)


@given(states=reference_states(), seed=seeds)
def test_attention_knows_no_order(states: ReferenceStates, seed: int) -> None:
    """Non-causal and position-free: tokens in another order get the same weights."""
    order = torch.randperm(states.keys.shape[2], generator=torch.Generator().manual_seed(seed))
    mixed = ReferenceStates(
        states.queries[:, :, order],
        states.keys[:, :, order],
        states.values[:, :, order],
        states.valid[:, order],
    )
    selector = AttentionSelector()
    valid = states.valid[:, None].expand(-1, states.keys.shape[1], -1)[:, :, order]
    expected, actual = selector.scores(states)[:, :, order], selector.scores(mixed)
    torch.testing.assert_close(actual[valid], expected[valid], rtol=1e-4, atol=1e-4)


def test_attention_would_differ_on_rotated_heads() -> None:
    """The comparison above can fail: rotated heads order otherwise."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 12, 16, generator=generator)
    valid = torch.ones(1, 12, dtype=torch.bool)
    table = rope_table(torch.arange(12), 16, 10_000.0)
    plain = AttentionSelector().scores(ReferenceStates(q, k, v, valid))
    rotated = ReferenceStates(apply_rope(q, table), apply_rope(k, table), v, valid)
    assert not torch.allclose(plain, AttentionSelector().scores(rotated), atol=0.1)


def test_attention_does_not_overflow() -> None:
    """Logits of thousands, where a plain sum of exponentials is infinite, keep an order."""
    states = ReferenceStates(
        torch.full((1, 1, 4, 8), 100.0),
        torch.arange(4.0)[None, None, :, None].expand(1, 1, 4, 8) * 100,
        torch.zeros(1, 1, 4, 8),
        torch.ones(1, 4, dtype=torch.bool),
    )
    scores = AttentionSelector().scores(states)
    assert torch.isfinite(scores).all()
    assert scores[0, 0].argmax() == 3


@given(states=reference_states())
def test_the_lot_is_fixed_and_differs_by_head(states: ReferenceStates) -> None:
    """The same place and head always draws the same, whatever stands there."""
    scores = RandomSelector().scores(states)
    other = replace(states, keys=states.keys + 1, values=-states.values)
    assert torch.equal(scores, RandomSelector().scores(other))
    assert len(scores[0].unique()) == scores[0].numel()
    assert torch.equal(scores[0], scores[-1])


def _sorted_by_hand(scores: list[float], count: int) -> list[int]:
    """The places of the highest scores, earlier first where they tie, rising."""
    best = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:count]
    return sorted(best)


@given(data=st.data(), num_heads=st.integers(1, 3), count=st.integers(1, 12))
def test_select_is_sorting_by_hand(data: st.DataObject, num_heads: int, count: int) -> None:
    """The highest, in order of position; ties go to the earlier token; padding comes last."""
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    padded = max(*lengths, count, 1)
    valid = torch.arange(padded) < torch.tensor(lengths)[:, None]
    levels = st.integers(-3, 3)  # few, so that many tie
    rows = [
        [[data.draw(levels) for _ in range(length)] for _ in range(num_heads)] for length in lengths
    ]
    scores = torch.full((len(lengths), num_heads, padded), 99.0)
    for row, heads in enumerate(rows):
        scores[row, :, : lengths[row]] = torch.tensor(heads, dtype=torch.float32)
    index = select(scores, valid, count)
    assert index.shape == (len(lengths), num_heads, count)
    for row, length in enumerate(lengths):
        for head in range(num_heads):
            kept = index[row, head].tolist()
            expected = _sorted_by_hand(rows[row][head], count)
            assert kept[: len(expected)] == expected
            assert all(place >= length for place in kept[len(expected) :])


def test_attention_weights_are_never_there_for_all_references() -> None:
    """64 references of 128 tokens: no tensor is larger than a block, nor do scores depend on it."""

    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                self.numbers = max(self.numbers, result.numel())
            return result

    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(64, heads, 128, 4, generator=generator) for heads in (12, 4))
    valid = torch.arange(128) < torch.randint(1, 129, (64, 1), generator=generator)
    states = ReferenceStates(queries, keys, keys, valid)
    with Largest() as largest:
        scores = AttentionSelector().scores(states)
    assert 0 < largest.numbers <= 1 << 22 < 64 * 12 * 128 * 128
    for row in (0, 21, 63):
        part = (states.queries, states.keys, states.values, states.valid)
        alone = AttentionSelector().scores(ReferenceStates(*(x[row : row + 1] for x in part)))[0]
        shown = valid[row].expand(4, -1)
        torch.testing.assert_close(scores[row][shown], alone[shown], rtol=1e-5, atol=1e-5)
