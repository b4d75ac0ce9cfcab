"""Training reads as the services read: one masked pass equals writer, prefill and chunks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from memory3_trainer.stages.batch import NONE, Example, MemoryBatch, collate
from memory3_trainer.stages.forward import Selection, blurred, hidden_states
from memory3_trainer.stages.loss import next_token_loss
from memory3_trainer.stages.objectives import NextToken
from torch import Tensor

from memory3 import plugins
from memory3.memory.writer import MemoryWriter
from memory3.model.cache import SlotCache
from memory3.testing.checkpoints import tiny_model
from tests.oracles.conftest import Kit

LENGTHS = (20, 5, 32, 9, 14, 3)
# What each chunk of the sequences reads; the second ends in the middle of a chunk.
CHUNKS: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((0, 1), (2, 0), (), (4, 3, 0)),
    ((5,), (5, 4), (1,)),
    ((), (), (), ()),
)
NUM_TOKENS = (60, 37, 50)


def selection(kit: Kit, **changes: object) -> Selection:
    """The choice of inference."""
    memory = kit.config.memory
    own = {"selector": plugins.load("selectors", memory.selector)()}
    return Selection(**{**own, "tokens_kept": memory.tokens_kept, **changes})


def references(kit: Kit) -> list[list[int]]:
    """Random references."""
    return [kit.tokens(length, 200 + place) for place, length in enumerate(LENGTHS)]


def batch_of(kit: Kit, chunks: Sequence[Sequence[Sequence[int]]] = CHUNKS) -> MemoryBatch:
    """Random sequences that read random references."""
    rows = [
        Example(kit.tokens(count, seed), [1.0] * count, part)
        for seed, (count, part) in enumerate(zip(NUM_TOKENS, chunks, strict=True))
    ]
    config = kit.config
    return collate(
        rows,
        references(kit),
        separator_id=config.separator_id,
        pad_id=config.pad_id,
        chunk_length=config.memory.chunk_length,
    )


def trained_logits(kit: Kit, batch: MemoryBatch, **changes: object) -> Tensor:
    """Logits [B, T, V] of the forward pass of training."""
    with torch.no_grad():
        return kit.model.logits(hidden_states(kit.model, batch, selection(kit, **changes)))


def test_one_masked_pass_equals_writer_and_prefill(kit: Kit) -> None:
    """Every sequence alone, its memories written and attached chunk by chunk, gives the same."""
    batch = batch_of(kit)
    logits = trained_logits(kit, batch)
    written = kit.writer.write(references(kit))
    for row, (count, chunks) in enumerate(zip(NUM_TOKENS, CHUNKS, strict=True)):
        cache = SlotCache(kit.model, num_slots=1)
        num_chunks = kit.model.layout.num_chunks(count)
        memories = [[written[key] for key in chunk] for chunk in chunks[:num_chunks]]
        tokens = torch.tensor(kit.tokens(count, row))
        with torch.inference_mode():
            alone = kit.model.prefill(cache, 0, tokens, memories, all_logits=True).logits
        torch.testing.assert_close(logits[row, : count + 1], alone, rtol=1e-4, atol=1e-4)


def test_every_chunk_by_itself_gives_the_same(kit: Kit) -> None:
    """Changing what another chunk reads changes no logit before that chunk."""
    base = trained_logits(kit, batch_of(kit))
    changed = ((*CHUNKS[0][:2], (1, 2), *CHUNKS[0][3:]), *CHUNKS[1:])
    other = trained_logits(kit, batch_of(kit, changed))
    border = 1 + 2 * kit.config.memory.chunk_length
    torch.testing.assert_close(other[0, :border], base[0, :border], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(other[0, border : border + 16], base[0, border : border + 16])
    torch.testing.assert_close(other[1:], base[1:], rtol=1e-4, atol=1e-4)


def test_all_tokens_kept_equals_an_annealing_that_has_not_begun(kit: Kit) -> None:
    """None keeps all, as does a number that no reference reaches."""
    batch = batch_of(kit)
    every = trained_logits(kit, batch, tokens_kept=None)
    torch.testing.assert_close(every, trained_logits(kit, batch, tokens_kept=32))
    assert not torch.allclose(every, trained_logits(kit, batch))


def test_a_soft_choice_falls_to_the_hard_one(kit: Kit) -> None:
    """At a low temperature both read the same."""
    batch = batch_of(kit)
    soft = trained_logits(kit, batch, hard=False, temperature=1e-4)
    torch.testing.assert_close(soft, trained_logits(kit, batch), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("detach", [False, True])
def test_gradients_flow_through_the_writer_unless_detached(kit: Kit, detach: bool) -> None:
    """A token that only a reference has gets a gradient by way of the memory, or none."""
    model = tiny_model(kit.config, seed=7).train().requires_grad_(True)
    config = kit.config
    only = 400
    batch = collate(
        [Example([7, 8, 9, 10], [1.0] * 4, [[0]])],
        [[5, only, 6]],
        separator_id=config.separator_id,
        pad_id=config.pad_id,
        chunk_length=config.memory.chunk_length,
    )
    weight = model.embedding.weight
    hidden = hidden_states(model, batch, selection(kit, detach=detach))
    # The output matrix is tied to the embedding, so only its row as input counts.
    (by_token,) = torch.autograd.grad(hidden.sum(), [weight])
    assert bool(by_token[only].abs().sum() > 0) is not detach


def test_a_reference_that_no_chunk_reads_changes_nothing(kit: Kit) -> None:
    """It is not even encoded."""
    batch = batch_of(kit)
    assert sorted(batch.lengths.tolist()) == sorted(LENGTHS)
    silent = batch_of(kit, (((), (), (), ()),) * 3)
    assert len(silent.references) == 0
    base = trained_logits(kit, silent)
    attached = batch_of(kit)
    attached.reads.fill_(NONE)
    torch.testing.assert_close(trained_logits(kit, attached), base, rtol=1e-4, atol=1e-4)


def test_the_loss_is_the_weighted_mean_over_real_tokens(kit: Kit) -> None:
    """Padding and tokens of weight zero do not count; pieces add up to the whole."""
    batch = batch_of(kit)
    batch.weights[0, 5] = 0.0
    batch.weights[1, 3] = 0.5
    with torch.no_grad():
        hidden = hidden_states(kit.model, batch, selection(kit))
        total = next_token_loss(kit.model, hidden, batch)
        weight = NextToken().weight(batch)
        logits = kit.model.logits(hidden).log_softmax(-1)
    expected = 0.0
    for row, count in enumerate(NUM_TOKENS):
        for place in range(1, count + 1):
            share = float(batch.weights[row, place])
            expected -= share * float(logits[row, place - 1, batch.tokens[row, place]])
    assert float(weight) == pytest.approx(sum(NUM_TOKENS) - 1.5)
    assert float(total) == pytest.approx(expected, rel=1e-4)


def test_long_batches_are_added_up_in_pieces(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss and its gradient do not depend on the size of a piece."""
    model = tiny_model(kit.config, seed=7).requires_grad_(True)
    batch = batch_of(kit)

    def loss_and_gradient() -> tuple[float, Tensor]:
        hidden = hidden_states(model, batch, selection(kit))
        total = next_token_loss(model, hidden, batch)
        (gradient,) = torch.autograd.grad(total, [model.embedding.weight])
        return float(total.detach()), gradient

    whole = loss_and_gradient()
    monkeypatch.setattr("memory3_trainer.stages.loss._PIECE", 50)
    pieces = loss_and_gradient()
    assert pieces[0] == pytest.approx(whole[0], rel=1e-5)
    torch.testing.assert_close(pieces[1], whole[1], rtol=1e-4, atol=1e-5)


def test_writing_for_training_is_the_writer_of_the_services(kit: Kit) -> None:
    """A second selector, to be sure that the choice is not the same by accident."""
    writer = MemoryWriter(kit.model, kit.config, selector=plugins.load("selectors", "value-norm")())
    written = writer.write(references(kit))
    batch = batch_of(kit)
    logits = trained_logits(kit, batch, selector=plugins.load("selectors", "value-norm")())
    cache = SlotCache(kit.model, num_slots=1)
    memories = [[written[key] for key in chunk] for chunk in CHUNKS[0]]
    with torch.inference_mode():
        alone = kit.model.prefill(
            cache, 0, torch.tensor(kit.tokens(60, 0)), memories, all_logits=True
        ).logits
    torch.testing.assert_close(logits[0, :61], alone, rtol=1e-4, atol=1e-4)


def test_noise_blurs_memories_alone_and_the_same_batch_alike(kit: Kit) -> None:
    """Text that reads nothing is untouched; more noise moves more; a batch draws the same twice."""
    batch = batch_of(kit)
    clear = trained_logits(kit, batch)
    little, again, much = (trained_logits(kit, batch, noise=share) for share in (0.01, 0.01, 0.5))
    assert torch.equal(little, again)
    torch.testing.assert_close(little[2], clear[2])  # its chunks read nothing
    small, large = ((noisy[:2] - clear[:2]).abs().mean() for noisy in (little, much))
    assert 0 < 5 * small < large


def test_noise_is_as_large_as_asked_for() -> None:
    """A share of the size of each KV head, whatever that size is."""
    part = torch.tensor([1.0, 100.0]).view(1, 2, 1, 1) * torch.ones(50, 2, 8, 16)
    added = blurred(part, 0.1, torch.Generator().manual_seed(0)) - part
    expected = torch.tensor([0.1, 10.0])
    torch.testing.assert_close(added.std(dim=(0, 2, 3)), expected, rtol=0.03, atol=0)
