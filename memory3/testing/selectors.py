"""The contract of the selector family: subclass ``SelectorContract`` and say how yours is made.

A plugin passes the family's tests by::

    from memory3.testing.selectors import SelectorContract

    class TestMySelector(SelectorContract):
        def make(self):
            return MySelector()

All tests call only what ``Selector`` promises. It must not know any one rule.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from memory3.memory.selectors.base import ReferenceStates, Selector, select
from memory3.memory.writer import MemoryWriter
from memory3.testing.checkpoints import tiny_config, tiny_model

LENGTHS = (20, 1, 7, 8, 9, 13)
KEPT = 8


def example(lengths: tuple[int, ...] = LENGTHS, *, seed: int = 0) -> tuple[ReferenceStates, ...]:
    """Heads of references, each alone and without padding."""
    made = []
    for place, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(seed + place)
        queries, keys, values = (
            torch.randn(1, heads, length, 16, generator=generator) for heads in (4, 2, 2)
        )
        made.append(ReferenceStates(queries, keys, values, torch.ones(1, length).bool()))
    return tuple(made)


def batch(alone: tuple[ReferenceStates, ...], *, padding: float, width: int) -> ReferenceStates:
    """References side by side, filled up with a number on the right."""

    def fill(part: Tensor) -> Tensor:
        missing = width - part.shape[2]
        return torch.nn.functional.pad(part, (0, 0, 0, missing), value=padding)

    return ReferenceStates(
        torch.cat([fill(states.queries) for states in alone]),
        torch.cat([fill(states.keys) for states in alone]),
        torch.cat([fill(states.values) for states in alone]),
        torch.arange(width) < torch.tensor([[s.valid.shape[1]] for s in alone]),
    )


class SelectorContract(ABC):
    """What every selector must do; pytest collects a subclass whose name starts with ``Test``."""

    @abstractmethod
    def make(self) -> Selector:
        """The selector under test, the same one at each call."""

    @pytest.fixture
    def selector(self) -> Selector:
        """The selector under test."""
        return self.make()

    def test_it_has_a_name(self, selector: Selector) -> None:
        """The name that a checkpoint's configuration stores."""
        assert re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", selector.name)

    def test_scores_are_float32_for_every_token_and_head(self, selector: Selector) -> None:
        """[B, K, N], finite wherever there is a token."""
        states = batch(example(), padding=0.0, width=24)
        scores = selector.scores(states)
        assert scores.shape == (len(LENGTHS), 2, 24)
        assert scores.dtype == torch.float32
        valid = states.valid[:, None].expand_as(scores)
        assert torch.isfinite(scores[valid]).all()

    @pytest.mark.parametrize("padding", [0.0, 1.0, -1000.0])
    @pytest.mark.parametrize("width", [20, 33])
    def test_padding_never_changes_what_is_kept(
        self, selector: Selector, padding: float, width: int
    ) -> None:
        """A reference keeps in any batch, behind any padding, what it keeps alone."""
        alone = example()
        states = batch(alone, padding=padding, width=width)
        together = select(selector.scores(states), states.valid, KEPT)
        for row, reference in enumerate(alone):
            length = reference.valid.shape[1]
            kept = min(length, KEPT)
            expected = select(selector.scores(reference), reference.valid, kept)[0]
            assert torch.equal(together[row, :, :kept], expected)
            assert (together[row, :, kept:] >= length).all()
            assert (expected.diff(dim=-1) > 0).all()

    def test_it_decides_the_same_again(self, selector: Selector) -> None:
        """Writing a reference twice gives the same memory."""
        states = batch(example(), padding=0.0, width=20)
        scores = selector.scores(states)
        assert torch.equal(scores, selector.scores(states))
        assert torch.equal(scores, self.make().scores(states))

    def test_it_changes_nothing_it_is_given(self, selector: Selector) -> None:
        """The heads go on to be stored."""
        states = batch(example(), padding=0.0, width=20)
        before = {item.name: getattr(states, item.name).clone() for item in fields(states)}
        selector.scores(states)
        for name, expected in before.items():
            assert torch.equal(expected, getattr(states, name))

    def test_it_takes_bfloat16(self, selector: Selector) -> None:
        """Heads in the number format of services still give float32 scores."""
        states = batch(example(), padding=0.0, width=20)
        halves = ReferenceStates(
            states.queries.bfloat16(), states.keys.bfloat16(), states.values.bfloat16(),
            states.valid,
        )  # fmt: skip
        scores = selector.scores(halves)
        assert scores.dtype == torch.float32
        valid = states.valid[:, None].expand_as(scores)
        torch.testing.assert_close(
            scores[valid], selector.scores(states)[valid], rtol=0.05, atol=0.05
        )

    def test_it_lets_gradients_through_or_has_none(self, selector: Selector) -> None:
        """In training its scores either teach, with finite gradients, or are constants."""
        states = batch(example(), padding=0.0, width=20)
        parts = (states.queries, states.keys, states.values)
        for part in parts:
            part.requires_grad_(True)
        scores = selector.scores(states)
        valid = scores[states.valid[:, None].expand_as(scores)]
        assert torch.isfinite(valid).all()
        if valid.requires_grad:
            gradients = torch.autograd.grad(valid.sum(), parts, allow_unused=True)
            assert any(gradient is not None for gradient in gradients)
            assert all(g is None or bool(torch.isfinite(g).all()) for g in gradients)

    def test_a_writer_can_use_it(self, selector: Selector) -> None:
        """With a real model: short references keep all they have, longer ones what is asked for."""
        config = tiny_config()
        writer = MemoryWriter(tiny_model(config), config, selector=selector)
        memories = writer.write([range(5, 60), range(7, 10)])
        assert [memory.num_kept for memory in memories] == [KEPT, 3]
        assert (memories[0].positions.diff(dim=-1) > 0).all()
        assert (memories[1].positions[..., :3] == torch.arange(3)).all()
