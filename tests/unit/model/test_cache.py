"""The slot cache refuses what does not fit, by name, and stays as it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memory3.errors import InvalidArgumentError
from memory3.memory.tensors import MemoryTensors
from memory3.memory.writer import MemoryWriter
from memory3.model.cache import SlotCache
from memory3.model.transformer import Transformer
from memory3.testing.checkpoints import tiny_config, tiny_model
from tests.strategies import seeds


@pytest.fixture(scope="module")
def model() -> Transformer:
    """A tiny random model."""
    return tiny_model(tiny_config(context_length=40, references_per_chunk=2))


@pytest.fixture
def cache(model: Transformer) -> SlotCache:
    """Two empty slots."""
    return SlotCache(model, num_slots=2)


@pytest.fixture(scope="module")
def memory(model: Transformer) -> MemoryTensors:
    """One memory of a reference of 20 tokens."""
    return MemoryWriter(model, model.config).write([range(5, 25)])[0]


def _prompt(number: int) -> torch.Tensor:
    return torch.arange(5, 5 + number)


def test_sizes_come_from_the_configuration(cache: SlotCache) -> None:
    """Without arguments a cache holds what the model was made for."""
    assert (cache.num_slots, cache.context_length, cache.num_references) == (2, 40, 2)
    assert cache.lengths.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("field", "sizes"),
    [
        ("num_slots", {"num_slots": 0}),
        ("context_length", {"num_slots": 1, "context_length": 0}),
        ("num_references", {"num_slots": 1, "num_references": -1}),
    ],
)
def test_an_impossible_size_is_named(model: Transformer, field: str, sizes: Any) -> None:
    """A cache without slots or columns cannot be made."""
    with pytest.raises(InvalidArgumentError) as caught:
        SlotCache(model, **sizes)
    assert caught.value.field == field


@torch.inference_mode()
def test_a_cache_without_places_for_memories_works(model: Transformer) -> None:
    """Zero references make a plain cache."""
    cache = SlotCache(model, num_slots=1, num_references=0)
    model.prefill(cache, 0, _prompt(3))
    output = model.decode(cache, torch.tensor([0]), torch.tensor([9]), report=True)
    assert output.mass is not None
    assert output.mass.shape == (1, 0)


@torch.inference_mode()
def test_memories_reach_each_layer_of_their_slot_alone(
    cache: SlotCache, memory: MemoryTensors
) -> None:
    """What a layer reads in a slot is what was attached, and the other slots keep theirs."""
    other = replace(memory, keys=memory.keys + 1, values=memory.values + 2)
    cache.attach(0, [memory, other])
    cache.attach(1, [other])
    slots, kept = torch.tensor([0, 1]), cache.tokens_kept
    columns = cache.memory_columns
    cache.grow(slots)
    cache.masks(slots)
    for layer in range(cache.num_memory_layers):
        start = cache.context_start(layer)
        newest = torch.zeros(2, memory.keys.shape[1], memory.keys.shape[3])
        keys, values = cache.append(layer, slots, newest, newest)
        assert columns.stop == start
        for slot, place, wanted in ((0, 0, memory), (0, 1, other), (1, 0, other)):
            part = slice(columns.start + place * kept, columns.start + (place + 1) * kept)
            assert torch.equal(keys[slot, :, part], wanted.keys[layer])
            assert torch.equal(values[slot, :, part], wanted.values[layer])


@torch.inference_mode()
def test_too_many_memories_are_refused(
    model: Transformer, cache: SlotCache, memory: MemoryTensors
) -> None:
    """Attaching and prefilling name their argument."""
    with pytest.raises(InvalidArgumentError) as caught:
        cache.attach(0, [memory] * 3)
    assert caught.value.field == "memories"
    with pytest.raises(InvalidArgumentError) as caught:
        model.prefill(cache, 0, _prompt(70 - 31), [[memory] * 3])
    assert caught.value.field == "chunk_memories[0]"


def _deformed(memory: MemoryTensors) -> dict[str, MemoryTensors]:
    """Memories that another configuration would make."""
    keys, values = memory.keys, memory.values
    return {
        "layers": replace(memory, keys=torch.cat((keys, keys)), values=torch.cat((values, values))),
        "heads": replace(memory, keys=keys[:, :1], values=values[:, :1]),
        "tokens": replace(memory, keys=keys[:, :, :1], values=values[:, :, :1], num_kept=1),
        "head dim": replace(memory, keys=keys[..., :1], values=values[..., :1]),
        "values": replace(memory, values=values[:, :, :1]),
        "none kept": replace(memory, num_kept=0),
        "more kept than there are": replace(memory, num_kept=9),
    }


@pytest.mark.parametrize("how", _deformed(MemoryTensors(*[torch.zeros(1, 2, 3, 4)] * 3, 1)))
@torch.inference_mode()
def test_a_memory_of_another_shape_is_refused(
    model: Transformer, cache: SlotCache, memory: MemoryTensors, how: str
) -> None:
    """Nothing is stretched to fit, and what was attached stays attached."""
    model.prefill(cache, 0, _prompt(3), [[memory]])
    deformed = _deformed(memory)[how]
    before = cache.memory_mask.clone()
    with pytest.raises(InvalidArgumentError) as caught:
        cache.attach(0, [memory, deformed])
    assert caught.value.field == "memories[1]"
    with pytest.raises(InvalidArgumentError) as caught:
        model.prefill(cache, 0, _prompt(3), [[memory, deformed]])
    assert caught.value.field == "chunk_memories[0][1]"
    assert torch.equal(before, cache.memory_mask)
    assert cache.lengths.tolist() == [4, 0]


@torch.inference_mode()
def test_a_prompt_that_does_not_fit_is_refused(model: Transformer, cache: SlotCache) -> None:
    """The longest prompt fits, one token more does not."""
    model.prefill(cache, 0, _prompt(40))
    with pytest.raises(InvalidArgumentError) as caught:
        model.prefill(cache, 1, _prompt(41))
    assert caught.value.field == "prompt"
    assert cache.lengths.tolist() == [41, 0]


@pytest.mark.parametrize(
    ("held", "more", "field"),
    [(None, 3, "resume"), (3, 3, "resume"), (64, 0, "tokens"), (64, 37, "prompt")],
)
@torch.inference_mode()
def test_a_piece_that_cannot_follow_is_refused(
    model: Transformer, held: int | None, more: int, field: str
) -> None:
    """A prompt goes on after whole chunks, with a token at least, and as far as it fits."""
    cache = SlotCache(model, num_slots=1, context_length=100)
    if held is not None:
        model.prefill(cache, 0, _prompt(held))
    before = cache.lengths.tolist()
    with pytest.raises(InvalidArgumentError) as caught:
        model.prefill(cache, 0, _prompt(more), resume=True)
    assert caught.value.field == field
    assert cache.lengths.tolist() == before


@pytest.mark.parametrize("number", [1, 3])
@torch.inference_mode()
def test_every_chunk_needs_its_memories(
    model: Transformer, memory: MemoryTensors, number: int
) -> None:
    """Lists of memories that do not match the chunks are refused: two chunks here."""
    cache = SlotCache(model, num_slots=1, context_length=100)
    with pytest.raises(InvalidArgumentError) as caught:
        model.prefill(cache, 0, _prompt(65), [[memory]] * number)
    assert caught.value.field == "chunk_memories"


@torch.inference_mode()
def test_a_full_slot_is_refused_before_anything_changes(
    model: Transformer, cache: SlotCache
) -> None:
    """A batch with one full slot changes none of its slots."""
    model.prefill(cache, 0, _prompt(40))
    model.prefill(cache, 1, _prompt(5))
    with pytest.raises(InvalidArgumentError) as caught:
        model.decode(cache, torch.tensor([1, 0]), torch.tensor([9, 9]))
    assert caught.value.field == "slots"
    assert cache.lengths.tolist() == [41, 6]


@torch.inference_mode()
def test_releasing_forgets(model: Transformer, cache: SlotCache, memory: MemoryTensors) -> None:
    """A released slot has no context and no memories."""
    model.prefill(cache, 0, _prompt(5), [[memory]])
    cache.release(0)
    assert cache.lengths.tolist() == [0, 0]
    assert not cache.memory_mask.any()


@torch.inference_mode()
def test_sinks_are_the_same_in_every_slot(model: Transformer, cache: SlotCache) -> None:
    """`<s>Reference:` stands before every context, in every layer."""
    num_sinks = len(model.config.prefix_ids)
    for keys, values in zip(cache._keys, cache._values, strict=True):
        for part in (keys, values):
            assert part[:, :, :num_sinks].abs().max() > 0
            assert torch.equal(part[0, :, :num_sinks], part[1, :, :num_sinks])


def test_copied_context_goes_on_like_the_original(
    model: Transformer, memory: MemoryTensors
) -> None:
    """Columns of one slot, in parts, make another slot that ends there and continues the same."""
    size = model.config.memory.chunk_length
    cache = SlotCache(model, num_slots=2, context_length=2 * size + 8)
    tokens = torch.arange(2 * size + 3) % 50 + 10
    with torch.inference_mode():
        whole = model.prefill(cache, 0, tokens[: 2 * size], [[memory], []])
        cache.attach(1, [memory])
        for start, stop in ((0, size + 1), (size + 1, 2 * size + 1)):
            columns = cache.copy_context(0, start, stop)
            cache.paste_context(1, start, columns)
            assert cache.lengths[1] == stop
        rests = [
            model.prefill(cache, slot, tokens[2 * size :], [[memory]], resume=True)
            for slot in (0, 1)
        ]
        columns.zero_()
        step = model.decode(cache, torch.tensor([0, 1]), torch.tensor([7, 7]))
    assert whole.logits.isfinite().all()
    assert torch.equal(rests[0].logits, rests[1].logits)
    assert torch.equal(step.logits[0], step.logits[1])


def test_the_digest_of_a_memory_is_that_of_what_is_read(memory: MemoryTensors) -> None:
    """The same contents have the same digest; other keys, values, lengths or formats another."""
    assert replace(memory, keys=memory.keys.clone()).digest == memory.digest
    others = (
        replace(memory, keys=memory.keys + 1),
        replace(memory, values=memory.values + 1),
        replace(memory, num_kept=memory.num_kept - 1),
        replace(memory, keys=memory.keys.bfloat16(), values=memory.values.bfloat16()),
    )
    assert len({memory.digest, *(other.digest for other in others)}) == 5


@pytest.mark.parametrize("together", [False, True], ids=["as on a processor", "as on a device"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
@torch.inference_mode()
def test_attaching_to_many_slots_is_attaching_to_each(
    model: Transformer, memory: MemoryTensors, together: bool, data: st.DataObject
) -> None:
    """Whichever slots and however many memories, none too: the same columns are read and give the
    same logits, and the other slots keep theirs.
    """
    num_slots, seed = 6, data.draw(seeds)
    generator = torch.Generator().manual_seed(seed)

    def draw() -> dict[int, list[MemoryTensors]]:
        slots = data.draw(st.lists(st.integers(0, num_slots - 1), unique=True))
        counts = {slot: data.draw(st.integers(0, 2)) for slot in slots}
        return {slot: [_drawn(memory, generator) for _ in range(counts[slot])] for slot in slots}

    each, many = (SlotCache(model, num_slots=num_slots) for _ in range(2))
    many._writes_together = together
    for memories in (draw(), draw()):
        for slot, own in memories.items():
            each.attach(slot, own)
        many.attach_many(memories)
    assert torch.equal(each.memory_mask, many.memory_mask)
    for mine, other in (
        (each._memory_keys, many._memory_keys),
        (each._memory_values, many._memory_values),
    ):
        columns = each.memory_columns
        read = each.memory_mask[None, :, None, :, None]
        assert torch.equal(mine[:, :, :, columns] * read, other[:, :, :, columns] * read)
    slots = torch.arange(num_slots)
    logits = [model.decode(cache, slots, slots + 5).logits for cache in (each, many)]
    assert torch.equal(*logits)


@torch.inference_mode()
def test_one_bad_memory_of_many_changes_no_slot(cache: SlotCache, memory: MemoryTensors) -> None:
    """The error names slot and place, and what the other slot held stays."""
    cache.attach(0, [memory])
    before = cache.memory_mask.clone(), cache._memory_keys.clone()
    other = replace(memory, keys=memory.keys + 1)
    with pytest.raises(InvalidArgumentError) as caught:
        cache.attach_many({0: [other, other], 1: [other, replace(memory, num_kept=0)]})
    assert caught.value.field == "memories[1][1]"
    assert torch.equal(before[0], cache.memory_mask)
    assert torch.equal(before[1], cache._memory_keys)


def _drawn(memory: MemoryTensors, generator: torch.Generator) -> MemoryTensors:
    """A memory of the same shape with other contents, perhaps of a shorter reference or in another
    number format.
    """
    kept = int(torch.randint(1, memory.keys.shape[2] + 1, (), generator=generator))
    dtype = (torch.float32, torch.bfloat16)[int(torch.randint(2, (), generator=generator))]
    keys, values = (torch.randn(memory.keys.shape, generator=generator).to(dtype) for _ in range(2))
    return replace(memory, keys=keys, values=values, num_kept=kept)
