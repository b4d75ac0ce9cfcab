"""Restricting one head at a time: the loss it measures, and that it measures that head alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from memory3.errors import InvalidArgumentError
from memory3.model.head_reach import ReachReport, measure_reach
from memory3.model.transformer import Transformer
from memory3.testing.checkpoints import tiny_config, tiny_model


def _text(number: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(5, 512, (number,), generator=generator).tolist()


def _rises(report: ReachReport) -> dict[tuple[int, int], float]:
    return {(one.layer, one.head): one.rise for one in report.heads}


def _losses(model: Transformer, text: list[int], mask: Tensor | None = None) -> Tensor:
    """The loss of every token of a text, by the training forward."""
    config = model.config
    sequence = torch.tensor([*config.prefix_ids, config.separator_id, *text])
    steps = torch.arange(len(sequence))
    before = len(config.prefix_ids)
    positions = steps + (steps >= before) * config.memory.reference_length
    causal = steps[None, :] <= steps[:, None]
    with torch.inference_mode():
        hidden = model(sequence[None], positions, causal if mask is None else causal & mask)
        logits = model.logits(hidden)[0, before:-1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(text), reduction="none")


def test_the_loss_is_that_of_tokens_with_something_behind_the_window() -> None:
    """Mean over all texts; those that the window holds whole count nothing."""
    model, texts = tiny_model(), [_text(40, 1), _text(13, 2), _text(60, 3)]
    report = measure_reach(model, texts, window=12)
    # Separator, 12 tokens in the window: the next is predicted with the first out of sight.
    expected = torch.cat([_losses(model, text)[13:] for text in texts])
    assert report.num_tokens == len(expected) == 27 + 0 + 47
    assert report.loss == pytest.approx(float(expected.mean()), rel=1e-5)


def test_one_restricted_head_equals_the_masked_forward() -> None:
    """In a model of one layer the whole forward under a mask of that head gives the same rise."""
    model, text, window = tiny_model(tiny_config(num_layers=1, num_memory_layers=1)), _text(50), 10
    report = measure_reach(model, [text], window)
    resting = len(model.config.prefix_ids) + 1
    steps = torch.arange(resting + len(text))
    recent = (steps[:, None] - steps[None, :] < window) | (steps < resting)
    for head in range(2):
        mask = torch.ones(4, len(steps), len(steps), dtype=torch.bool)
        mask[2 * head : 2 * head + 2] = recent
        rise = (_losses(model, text, mask) - _losses(model, text))[window + 1 :].mean()
        assert abs(float(rise)) > 1e-4
        assert _rises(report)[0, head] == pytest.approx(float(rise), abs=1e-5)


def test_heads_that_read_nothing_lose_nothing() -> None:
    """With the values of all heads but one gone, that one alone raises the loss."""
    model, kept = tiny_model(), (2, 1)
    for layer, block in enumerate(model.layers):
        values = block.attention.wv.weight.view(2, 16, -1)
        for head in range(2):
            if (layer, head) != kept:
                values[head] = 0
    rises = _rises(measure_reach(model, [_text(60)], window=8))
    assert abs(rises.pop(kept)) > 1e-4
    assert set(rises.values()) == {0.0}
    assert len(rises) == 7


def test_heads_are_sorted_and_memory_layers_are_marked() -> None:
    """The head that loses most comes first."""
    report = measure_reach(tiny_model(), [_text(60)], window=8)
    rises = [one.rise for one in report.heads]
    assert rises == sorted(rises, reverse=True)
    assert all(one.reads_memory == (one.layer < 2) for one in report.heads)


@pytest.mark.parametrize(
    ("texts", "window", "field"),
    [([[5] * 9], 8, "texts"), ([], 8, "texts"), ([[5] * 30], 0, "window")],
)
def test_what_cannot_be_measured_is_refused(
    texts: list[list[int]], window: int, field: str
) -> None:
    """A window that holds every text whole hides nothing."""
    with pytest.raises(InvalidArgumentError) as caught:
        measure_reach(tiny_model(), texts, window)
    assert caught.value.field == field
    assert caught.value.remedy
