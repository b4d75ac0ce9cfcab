"""Cached decoding equals the whole pass, batched equals alone, the block mask equals the loop."""

from __future__ import annotations

import pytest
import torch

from memory3.memory.tensors import MemoryTensors
from memory3.model.cache import SlotCache
from tests.oracles.conftest import Kit

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def _assert_equal_to_plain(actual: torch.Tensor, plain: object) -> None:
    torch.testing.assert_close(actual.double(), torch.as_tensor(plain), **CLOSE)


@pytest.mark.parametrize("num_tokens", [0, 1, 15, 16, 17, 50])
@torch.inference_mode()
def test_prefill_without_memories_equals_the_plain_pass(kit: Kit, num_tokens: int) -> None:
    """A prompt of any number of chunks, without memories."""
    tokens = kit.tokens(num_tokens, 1)
    cache = SlotCache(kit.model, num_slots=2)
    output = kit.model.prefill(cache, 1, torch.tensor(tokens, dtype=torch.int64), all_logits=True)
    _assert_equal_to_plain(output.logits, kit.plain.context(tokens).logits)
    assert cache.lengths.tolist() == [0, num_tokens + 1]


@torch.inference_mode()
def test_prefill_gives_the_last_row_alone_unless_asked(kit: Kit) -> None:
    """Without `all_logits` only the last token's row is computed, and it is the same."""
    tokens = torch.tensor(kit.tokens(20, 2))
    cache = SlotCache(kit.model, num_slots=1)
    every = kit.model.prefill(cache, 0, tokens, all_logits=True).logits
    last = kit.model.prefill(cache, 0, tokens).logits
    assert last.shape == (1, kit.config.vocab_size)
    torch.testing.assert_close(last, every[-1:])


def _chunks_of(kit: Kit) -> list[list[MemoryTensors]]:
    """Different numbers of memories for four chunks, one of them from a very short reference."""
    first = kit.memories(32, 20, 3, seed=10)
    return [first, kit.memories(8, seed=20), [], kit.memories(12, 1, seed=30)]


@torch.inference_mode()
def test_block_mask_equals_the_loop_over_chunks(kit: Kit) -> None:
    """One masked pass gives every token the memories of its own chunk and no others."""
    tokens, chunks = kit.tokens(60, 3), _chunks_of(kit)
    cache = SlotCache(kit.model, num_slots=1)
    output = kit.model.prefill(cache, 0, torch.tensor(tokens), chunks, all_logits=True, report=True)
    expected = kit.plain.context(tokens, chunks)
    _assert_equal_to_plain(output.logits, expected.logits)
    without = kit.plain.context(tokens)
    assert abs(expected.logits - without.logits).max() > 0.01  # the memories are read at all


@torch.inference_mode()
def test_block_mask_equals_attaching_chunk_by_chunk(kit: Kit) -> None:
    """The same prompt, decoded with the memories replaced at every border of chunks."""
    tokens, chunks = kit.tokens(60, 3), _chunks_of(kit)
    together = SlotCache(kit.model, num_slots=1)
    expected = kit.model.prefill(together, 0, torch.tensor(tokens), chunks, all_logits=True).logits
    cache = SlotCache(kit.model, num_slots=1)
    rows = [kit.model.prefill(cache, 0, torch.tensor([], dtype=torch.int64), chunks[:1]).logits]
    for place, token in enumerate(tokens):
        if place % kit.config.memory.chunk_length == 0:
            cache.attach(0, chunks[place // kit.config.memory.chunk_length])
        rows.append(kit.model.decode(cache, torch.tensor([0]), torch.tensor([token])).logits)
    torch.testing.assert_close(torch.cat(rows), expected, **CLOSE)


@torch.inference_mode()
def test_decoding_inherits_the_last_chunks_memories(kit: Kit) -> None:
    """What follows a prompt reads what its last chunk read (paper §4)."""
    prompt, more, chunks = kit.tokens(20, 4), kit.tokens(9, 5), _chunks_of(kit)[:2]
    cache = SlotCache(kit.model, num_slots=1)
    kit.model.prefill(cache, 0, torch.tensor(prompt), chunks)
    rows = [kit.model.decode(cache, torch.tensor([0]), torch.tensor([t])).logits for t in more]
    expected = kit.plain.context(prompt + more, chunks).logits  # 29 tokens are two chunks, too
    _assert_equal_to_plain(torch.cat(rows), expected[len(prompt) + 1 :])


@pytest.mark.parametrize("sizes", [[16, 44], [32, 16, 12], [16, 16, 16, 12], [48, 1]], ids=str)
@pytest.mark.parametrize("with_memories", [True, False], ids=["memories", "plain"])
@torch.inference_mode()
def test_a_prompt_in_pieces_equals_the_whole(
    kit: Kit, sizes: list[int], with_memories: bool
) -> None:
    """Pieces of whole chunks give the logits, masses and cache of one pass, others stepping."""
    tokens = kit.tokens(sum(sizes), 3)
    chunks = _chunks_of(kit) if with_memories else [[]] * 4
    whole = SlotCache(kit.model, num_slots=2)
    expected = kit.model.prefill(
        whole, 1, torch.tensor(tokens), chunks, all_logits=True, report=True
    )
    cache = SlotCache(kit.model, num_slots=2)
    kit.model.prefill(cache, 0, torch.tensor(kit.tokens(5, 8)), [kit.memories(9)])
    rows, masses, done = [], [], 0
    for size in sizes:
        own = chunks[done // 16 : -(-(done + size) // 16)]
        piece = torch.tensor(tokens[done : done + size])
        output = kit.model.prefill(
            cache, 1, piece, own, resume=done > 0, all_logits=True, report=True
        )
        kit.model.decode(cache, torch.tensor([0]), torch.tensor([7]))
        assert output.mass is not None
        rows.append(output.logits)
        masses.append(output.mass)
        done += size
    torch.testing.assert_close(torch.cat(rows), expected.logits, **CLOSE)
    torch.testing.assert_close(torch.cat(masses), expected.mass, **CLOSE)
    assert cache.lengths[1] == whole.lengths[1]
    for token in kit.tokens(3, 9):
        arguments = torch.tensor([1]), torch.tensor([token])
        actual = kit.model.decode(cache, *arguments, report=True)
        step = kit.model.decode(whole, *arguments, report=True)
        torch.testing.assert_close(actual.logits, step.logits, **CLOSE)
        torch.testing.assert_close(actual.mass, step.mass, **CLOSE)


def _filled(kit: Kit) -> SlotCache:
    """Five slots with contexts of different lengths and different memories."""
    cache = SlotCache(kit.model, num_slots=5)
    for slot, number in enumerate([3, 40, 0, 17, 29]):
        tokens = torch.tensor(kit.tokens(number, 50 + slot), dtype=torch.int64)
        kit.model.prefill(cache, slot, tokens)
        cache.attach(slot, kit.memories(*([30, 5, 12][: slot % 4]), seed=60 + slot))
    return cache


@pytest.mark.parametrize(
    "slots",
    [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [3, 1], [4], [0], [0, 1, 2], [1, 2, 4, 0]],
    ids=lambda slots: "".join(map(str, slots)),
)
@torch.inference_mode()
def test_batched_decoding_equals_alone(kit: Kit, slots: list[int]) -> None:
    """Any set of slots, in any order, gives each what it gets alone."""
    together, alone = _filled(kit), _filled(kit)
    for step in range(3):
        tokens = kit.tokens(len(slots), 70 + step)
        actual = kit.model.decode(together, torch.tensor(slots), torch.tensor(tokens), report=True)
        for row, (slot, token) in enumerate(zip(slots, tokens, strict=True)):
            single = kit.model.decode(
                alone, torch.tensor([slot]), torch.tensor([token]), report=True
            )
            torch.testing.assert_close(actual.logits[row : row + 1], single.logits, **CLOSE)
            assert actual.mass is not None
            assert single.mass is not None
            torch.testing.assert_close(actual.mass[row : row + 1], single.mass, **CLOSE)
    assert together.lengths.tolist() == alone.lengths.tolist()


@torch.inference_mode()
def test_decoding_leaves_other_slots_alone(kit: Kit) -> None:
    """A slot that takes no part in a step gives afterwards what it would have given before."""
    touched, untouched = _filled(kit), _filled(kit)
    kit.model.decode(touched, torch.tensor([0, 3]), torch.tensor(kit.tokens(2, 1)))
    kit.model.prefill(touched, 4, torch.tensor(kit.tokens(50, 2)), None)
    touched.release(2)
    arguments = torch.tensor([1]), torch.tensor([9])
    actual = kit.model.decode(touched, *arguments).logits
    torch.testing.assert_close(actual, kit.model.decode(untouched, *arguments).logits, **CLOSE)


@torch.inference_mode()
def test_a_released_slot_keeps_nothing(kit: Kit) -> None:
    """A slot used before, with a longer context and more memories, equals a fresh one."""
    used, fresh = SlotCache(kit.model, num_slots=1), SlotCache(kit.model, num_slots=1)
    kit.model.prefill(used, 0, torch.tensor(kit.tokens(64, 1)), [kit.memories(32, 32, 32)] * 4)
    used.release(0)
    prompt, memories = torch.tensor(kit.tokens(5, 2)), [kit.memories(10, seed=4)]
    outputs = []
    for cache in (used, fresh):
        kit.model.prefill(cache, 0, prompt, memories)
        step = kit.model.decode(cache, torch.tensor([0]), torch.tensor([8]), report=True)
        outputs.append((step.logits, step.mass))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=0)


@torch.inference_mode()
def test_attaching_moves_no_positions(kit: Kit) -> None:
    """After memories are attached and cleared again, everything is as if they never had been."""
    prompt, more = torch.tensor(kit.tokens(12, 1)), kit.tokens(4, 2)
    cache, never = SlotCache(kit.model, num_slots=1), SlotCache(kit.model, num_slots=1)
    for each in (cache, never):
        kit.model.prefill(each, 0, prompt)
    cache.attach(0, kit.memories(30, 20, 10))
    cache.attach(0, [])
    for token in more:
        arguments = torch.tensor([0]), torch.tensor([token])
        actual = kit.model.decode(cache, *arguments).logits
        torch.testing.assert_close(actual, kit.model.decode(never, *arguments).logits, **CLOSE)


@torch.inference_mode()
def test_replacing_leaves_nothing_behind(kit: Kit) -> None:
    """Fewer and shorter memories in the place of more leave none of the old columns readable."""
    prompt, short = torch.tensor(kit.tokens(12, 1)), kit.memories(2, seed=40)
    replaced, fresh = SlotCache(kit.model, num_slots=1), SlotCache(kit.model, num_slots=1)
    for cache in (replaced, fresh):
        kit.model.prefill(cache, 0, prompt)
    replaced.attach(0, kit.memories(30, 20, 10))
    steps = []
    for cache in (replaced, fresh):
        cache.attach(0, short)
        steps.append(kit.model.decode(cache, torch.tensor([0]), torch.tensor([9])).logits)
    torch.testing.assert_close(steps[0], steps[1], rtol=0, atol=0)


@torch.inference_mode()
def test_the_order_of_memories_does_not_matter(kit: Kit) -> None:
    """All memories share one interval of positions, so their order changes only the report."""
    prompt, memories = torch.tensor(kit.tokens(12, 1)), kit.memories(30, 20, 3)
    cache = SlotCache(kit.model, num_slots=1)
    forward = kit.model.prefill(cache, 0, prompt, [memories], report=True)
    backward = kit.model.prefill(cache, 0, prompt, [memories[::-1]], report=True)
    torch.testing.assert_close(forward.logits, backward.logits, **CLOSE)
    assert forward.mass is not None
    assert backward.mass is not None
    torch.testing.assert_close(forward.mass, backward.mass.flip(-1), **CLOSE)


@torch.inference_mode()
def test_prefill_reports_the_attention_on_every_memory(kit: Kit) -> None:
    """Mass is the mean over memory layers, query heads and the tokens of the chunk."""
    tokens, chunks = kit.tokens(60, 3), _chunks_of(kit)
    cache = SlotCache(kit.model, num_slots=1)
    mass = kit.model.prefill(cache, 0, torch.tensor(tokens), chunks, report=True).mass
    assert mass is not None
    plain = kit.plain.context(tokens, chunks).mass
    expected = torch.zeros(4, 3, dtype=torch.float64)
    for chunk, memories in enumerate(chunks):
        first = 1 + 16 * chunk if chunk else 0  # the separator belongs to the first chunk
        places = range(first, min(17 + 16 * chunk, len(tokens) + 1))
        for place in range(len(memories)):
            shares = [layer[token][:, place].mean() for layer in plain for token in places]
            expected[chunk, place] = sum(shares) / len(shares)
    torch.testing.assert_close(mass.double(), expected, **CLOSE)
    assert (mass.sum(-1) < 1).all()


@torch.inference_mode()
def test_decoding_reports_the_attention_on_every_memory(kit: Kit) -> None:
    """Mass of a step is the newest token's, zero for places without a memory."""
    prompt, memories = kit.tokens(7, 1), kit.memories(30, 2)
    cache = SlotCache(kit.model, num_slots=1)
    kit.model.prefill(cache, 0, torch.tensor(prompt), [memories])
    mass = kit.model.decode(cache, torch.tensor([0]), torch.tensor([9]), report=True).mass
    assert mass is not None
    plain = kit.plain.context([*prompt, 9], [memories]).mass
    expected = [sum(layer[-1][:, place].mean() for layer in plain) / 2 for place in range(2)]
    torch.testing.assert_close(
        mass.double(), torch.tensor([[*expected, 0.0]], dtype=torch.float64), **CLOSE
    )


@torch.inference_mode()
def test_a_full_context_can_be_used_to_its_last_token(kit: Kit) -> None:
    """`context_length` tokens fit, and the last of them is read right."""
    tokens = kit.tokens(24, 1)
    cache = SlotCache(kit.model, num_slots=1, context_length=24)
    kit.model.prefill(cache, 0, torch.tensor(tokens[:22]))
    rows = [
        kit.model.decode(cache, torch.tensor([0]), torch.tensor([t])).logits for t in tokens[22:]
    ]
    _assert_equal_to_plain(torch.cat(rows), kit.plain.context(tokens).logits[-2:])
