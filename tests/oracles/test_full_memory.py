"""A memory that keeps every token in every layer is an ordinary KV cache (paper §4)."""

from __future__ import annotations

import pytest
import torch

from memory3.model.cache import SlotCache
from tests.oracles.conftest import Kit

REFERENCE_LENGTH = 128


@pytest.fixture(scope="module")
def full() -> Kit:
    """All layers are memory layers and all tokens are kept."""
    return Kit.of(num_memory_layers=4, tokens_kept=REFERENCE_LENGTH, references_per_chunk=1)


def _dense(full: Kit, reference: list[int], context: list[int]) -> torch.Tensor:
    """Logits of separator and context in one causal pass over everything as text."""
    config = full.config
    head = len(config.prefix_ids)
    sequence = [*config.prefix_ids, *reference, config.separator_id, *context]
    steps = torch.arange(len(sequence))
    gap = REFERENCE_LENGTH - len(reference)  # the context starts behind the whole interval
    positions = steps + gap * (steps >= head + len(reference))
    causal = steps[None, :] <= steps[:, None]
    with torch.inference_mode():
        hidden = full.model(torch.tensor([sequence]), positions, causal)
        return full.model.logits(hidden)[0, head + len(reference) :]


@pytest.mark.parametrize("num_tokens", [REFERENCE_LENGTH, 77, 1])
@torch.inference_mode()
def test_prefill_equals_dense_attention(full: Kit, num_tokens: int) -> None:
    """Writing a reference and prefilling behind it equals reading it as text, at every token."""
    reference, context = full.tokens(num_tokens, 1), full.tokens(90, 2)  # two chunks
    (memory,) = full.writer.write([reference])
    cache = SlotCache(full.model, num_slots=1)
    output = full.model.prefill(
        cache, 0, torch.tensor(context), [[memory], [memory]], all_logits=True
    )
    expected = _dense(full, reference, context)
    torch.testing.assert_close(output.logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_tokens", [REFERENCE_LENGTH, 50])
@torch.inference_mode()
def test_decoding_equals_dense_attention(full: Kit, num_tokens: int) -> None:
    """Decoding token by token behind a full memory equals reading it as text."""
    reference, context = full.tokens(num_tokens, 3), full.tokens(30, 4)
    (memory,) = full.writer.write([reference])
    cache = SlotCache(full.model, num_slots=1)
    first = full.model.prefill(cache, 0, torch.tensor(context[:5]), [[memory]])
    steps = [
        full.model.decode(cache, torch.tensor([0]), torch.tensor([token])).logits
        for token in context[5:]
    ]
    expected = _dense(full, reference, context)[5:]
    actual = torch.cat([first.logits, *steps])
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_dense_attention_equals_the_plain_transformer(full: Kit) -> None:
    """The dense pass itself is right: it equals the loops in float64."""
    reference, context = full.tokens(REFERENCE_LENGTH, 5), full.tokens(12, 6)
    config = full.config
    sequence = [*config.prefix_ids, *reference, config.separator_id, *context]
    expected = full.plain.run(sequence, range(len(sequence))).logits[-13:]
    actual = _dense(full, reference, context)
    torch.testing.assert_close(actual.double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_dropped_token_is_missed(full: Kit) -> None:
    """The comparison can fail: with one token fewer the logits differ."""
    reference, context = full.tokens(REFERENCE_LENGTH, 1), torch.tensor(full.tokens(10, 2))
    memories = full.writer.write([reference, [*reference[:64], *reference[65:]]])
    outputs = []
    for memory in memories:
        cache = SlotCache(full.model, num_slots=1)
        outputs.append(full.model.prefill(cache, 0, context, [[memory]]).logits)
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3
