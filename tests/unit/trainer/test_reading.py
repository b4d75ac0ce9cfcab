"""What training reads is what inference reads: writer, memories, positions, packed questions."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from memory3_trainer.batches import ReadingBatch, ReadingBatches
from memory3_trainer.module import reading_loss
from memory3_trainer.reading import attach_references, read_context
from memory3_trainer.soft_selection import selection_bias
from torch import Tensor

from memory3 import plugins
from memory3.memory.writer import MemoryWriter
from memory3.model.cache import SlotCache
from memory3.model.config import ModelConfig
from memory3.model.transformer import Transformer
from memory3.testing.checkpoints import tiny_model


@pytest.fixture(scope="module")
def drawn(batches: ReadingBatches) -> list[ReadingBatch]:
    """Six batches of both kinds."""
    return list(islice(batches, 6))


def _trained(model: Transformer, batch: ReadingBatch, selector: str, kept: int) -> Tensor:
    """Logits of the training path with the hard choice, gradients and all; [B, T, V]."""

    def hard(scores: Tensor, valid: Tensor) -> Tensor:
        return selection_bias(scores, valid, count=kept, temperature=0.1, hard=True)

    chosen = plugins.load("selectors", selector)()
    memory = attach_references(model, batch, chosen, hard) if batch.attach else []
    hidden = read_context(model, batch.context, batch.segments, memory)
    assert hidden.requires_grad
    return model.logits(hidden)


def _questions(batch: ReadingBatch, row: int) -> list[tuple[list[int], list[int]]]:
    """Shared part and question of each question of a row, and the places of both."""
    used = int((batch.weights[row] > 0).nonzero().max()) + 1
    segments = batch.segments[row, :used]
    shared = (segments == 0).nonzero()[:, 0].tolist()
    numbers = range(1, int(segments.max()) + 1)
    return [(shared, (segments == number).nonzero()[:, 0].tolist()) for number in numbers]


@pytest.mark.parametrize("selector", plugins.names("selectors"))
def test_training_reads_what_inference_reads(
    drawn: list[ReadingBatch], config: ModelConfig, selector: str
) -> None:
    """Every question of a packed batch gets the logits of a prompt that asks it alone."""
    model = tiny_model(config, seed=2)
    writer = MemoryWriter(model, config, selector=plugins.load("selectors", selector)())
    cache = SlotCache(model, num_slots=1, num_references=3)
    compared = 0
    for batch in drawn:
        lengths = batch.lengths.tolist()
        with torch.inference_mode():
            references = [
                ids[:n].tolist() for ids, n in zip(batch.references, lengths, strict=True)
            ]
            memories = writer.write(references) if batch.attach else []
        each = len(memories) // len(batch.context)
        logits = _trained(model.requires_grad_(True), batch, selector, 8).detach()
        model.requires_grad_(False)
        for row in range(len(batch.context)):
            own = memories[row * each : (row + 1) * each]
            for shared, question in _questions(batch, row)[:2]:
                prompt = batch.context[row, [*shared, *question]][1:]  # prefill adds the separator
                chunks = [own] * model.layout.num_chunks(len(prompt))
                with torch.inference_mode():
                    alone = model.prefill(cache, 0, prompt, chunks, all_logits=True).logits
                torch.testing.assert_close(
                    logits[row, question], alone[len(shared) :], rtol=1e-3, atol=1e-4
                )
                compared += 1
    assert compared == 6 * 3 * 2


def test_gradients_reach_the_writer(drawn: list[ReadingBatch], config: ModelConfig) -> None:
    """The loss of reading teaches what is written, through keys, values and the choice (§7)."""
    model = tiny_model(config).requires_grad_(True)
    batch = next(batch for batch in drawn if batch.attach)

    def soft(scores: Tensor, valid: Tensor) -> Tensor:
        return selection_bias(scores, valid, count=8, temperature=0.5, hard=False)

    selector = plugins.load("selectors", "attention")()
    memory = attach_references(model, batch, selector, soft)
    for layer in memory:
        for part in (layer.keys, layer.values, layer.bias):
            part.retain_grad()
    hidden = read_context(model, batch.context, batch.segments, memory)
    loss, accuracy = reading_loss(model, hidden, batch)
    loss.backward()
    assert 0 <= float(accuracy) <= 1
    for layer in memory:
        for part in (layer.keys, layer.values, layer.bias):
            assert part.grad is not None
            assert torch.isfinite(part.grad).all()
            assert part.grad.abs().max() > 0


def test_the_loss_is_that_of_the_weighted_tokens(
    drawn: list[ReadingBatch], config: ModelConfig
) -> None:
    """Weighted mean of -log p over what has a weight, and nothing else."""
    model = tiny_model(config)
    for batch in drawn:
        hidden = read_context(model, batch.context, batch.segments, [])
        actual, _ = reading_loss(model, hidden, batch)
        chances = model.logits(hidden).log_softmax(-1)
        total = weight = 0.0
        for row, column in (batch.weights > 0).nonzero().tolist():
            own = float(batch.weights[row, column])
            total -= own * float(chances[row, column - 1, batch.context[row, column]])
            weight += own
        torch.testing.assert_close(float(actual), total / weight, rtol=1e-4, atol=1e-5)
