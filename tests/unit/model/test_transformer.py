"""The training forward, number formats, and what a fresh model looks like."""

from __future__ import annotations

import torch

from memory3.memory.writer import MemoryWriter
from memory3.model.cache import SlotCache
from memory3.model.shapes import expected_shapes
from memory3.model.transformer import LayerMemory
from memory3.testing.checkpoints import tiny_config, tiny_model


def test_the_training_forward_reads_memories_as_inference_does() -> None:
    """Attached as bias and columns, memories give the logits of a prefill."""
    config = tiny_config()
    model = tiny_model(config)
    context = torch.arange(20, 60)
    with torch.inference_mode():
        memories = MemoryWriter(model, config).write([range(5, 60), range(90, 95)])
        cache = SlotCache(model, num_slots=1)
        expected = model.prefill(cache, 0, context, [memories], all_logits=True).logits
        kept = torch.arange(8)
        hidden = torch.cat([kept >= memory.num_kept for memory in memories])
        bias = torch.zeros(1, config.num_kv_heads, 16).masked_fill(hidden, float("-inf"))
        columns = [
            LayerMemory(
                torch.cat([memory.keys[layer] for memory in memories], dim=1)[None],
                torch.cat([memory.values[layer] for memory in memories], dim=1)[None],
                bias,
            )
            for layer in range(config.memory.num_memory_layers)
        ]
        tokens = torch.tensor([[*config.prefix_ids, config.separator_id, *context.tolist()]])
        num_prefix = len(config.prefix_ids)
        steps = torch.arange(tokens.shape[1])
        states = model(
            tokens,
            steps + (steps >= num_prefix) * config.memory.reference_length,
            steps[None, :] <= steps[:, None],
            columns,
            reads=(steps >= num_prefix)[:, None],
        )
    actual = model.logits(states)[0, num_prefix:]
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_stays_near_float32() -> None:
    """Writing, prefilling and decoding in bfloat16 give nearly the logits of float32."""
    config = tiny_config()
    rows = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = tiny_model(config).to(dtype)
        with torch.inference_mode():
            memories = MemoryWriter(model, config).write([range(5, 60), range(90, 95)])
            assert {m.keys.dtype for m in memories} == {dtype}
            cache = SlotCache(model, num_slots=2)
            first = model.prefill(
                cache, 0, torch.arange(20, 60), [memories], all_logits=True, report=True
            )
            step = model.decode(cache, torch.tensor([0]), torch.tensor([7]), report=True)
        assert {first.logits.dtype, step.logits.dtype} == {torch.float32}
        assert first.mass is not None
        assert step.mass is not None
        rows[dtype] = torch.cat((first.logits, step.logits)), torch.cat((first.mass, step.mass))
    (exact, exact_mass), (near, near_mass) = rows[torch.float32], rows[torch.bfloat16]
    error = near - exact
    assert error.square().mean().sqrt() < 0.04 * exact.std()
    assert error.abs().max() < 0.2 * exact.std()
    torch.testing.assert_close(near_mass, exact_mass, rtol=0.05, atol=2e-3)


def test_float32_memories_attach_to_a_bfloat16_model() -> None:
    """A memory is brought to the number format of the model that reads it."""
    config = tiny_config()
    memories = MemoryWriter(tiny_model(config), config).write([range(5, 60)])
    model = tiny_model(config).to(torch.bfloat16)
    with torch.inference_mode():
        cache = SlotCache(model, num_slots=1)
        prefilled = model.prefill(cache, 0, torch.arange(9, 19), [memories]).logits
        model.prefill(cache, 0, torch.arange(9, 18))
        cache.attach(0, memories)
        decoded = model.decode(cache, torch.tensor([0]), torch.tensor([18])).logits
    assert torch.isfinite(prefilled).all()
    assert torch.isfinite(decoded).all()


def test_weights_have_the_names_and_shapes_of_a_checkpoint() -> None:
    """The table that opens checkpoints without torch is that of the model."""
    everything = {"attention_bias": "all", "mlp_bias": True, "qk_norm": True}
    for changes in ({}, {"tie_embeddings": False}, {"attention_bias": "qkv"}, everything):
        config = tiny_config(**changes)
        actual = {name: tuple(w.shape) for name, w in tiny_model(config).state_dict().items()}
        assert expected_shapes(config) == actual


def test_fresh_weights_follow_their_seed() -> None:
    """The same seed draws the same weights, another draws others; norms begin at one."""
    first, same, other = (tiny_model(seed=seed).state_dict() for seed in (1, 1, 2))
    for name, weight in first.items():
        assert torch.equal(weight, same[name])
        if weight.dim() == 1:
            assert (weight == 1).all()
        else:
            assert not torch.equal(weight, other[name])


def test_fresh_biases_are_zero() -> None:
    """A fresh model with biases computes what it would without them."""
    biased = tiny_model(tiny_config(attention_bias="all", mlp_bias=True)).state_dict()
    biases = {name: weight for name, weight in biased.items() if name.endswith(".bias")}
    assert len(biases) == 4 * (4 + 3)
    assert not any(weight.any() for weight in biases.values())
