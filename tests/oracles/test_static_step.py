"""The static step says what the eager one says, whoever takes part; and so do its CUDA graphs."""

from __future__ import annotations

import copy

import pytest
import torch

from memory3.errors import InvalidArgumentError, SettingsError
from memory3.model.cache import SlotCache
from memory3.model.static_step import StaticStep, sizes_up_to
from memory3.model.step import DecodeStep, EagerStep, make_step
from tests.oracles.conftest import Kit

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
SETS = [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [3, 1], [4], [0], [0, 1, 2]]


def _ready(kit: Kit, least_columns: int = 8) -> tuple[EagerStep, StaticStep, list[SlotCache]]:
    """Both steps, each with a cache of five slots of the same contexts and memories."""
    caches = [SlotCache(kit.model, num_slots=5) for _ in range(2)]
    for cache in caches:
        for slot, number in enumerate([3, 40, 0, 17, 29]):
            prompt = torch.tensor(kit.tokens(number, 50 + slot), dtype=torch.int64)
            kit.model.prefill(cache, slot, prompt)
            cache.attach(slot, kit.memories(*([30, 5, 12][: slot % 4]), seed=60 + slot))
    eager = EagerStep(kit.model, caches[0])
    return eager, StaticStep(kit.model, caches[1], least_columns=least_columns), caches


def _assert_same(kit: Kit, steps: tuple[DecodeStep, DecodeStep], slots: list[int]) -> None:
    tokens = kit.tokens(len(slots), 70 + len(slots))
    expected, actual = (step(slots, tokens, report=True) for step in steps)
    torch.testing.assert_close(actual.logits, expected.logits, **CLOSE)
    torch.testing.assert_close(actual.mass, expected.mass, **CLOSE)


@pytest.mark.parametrize("slots", SETS, ids=lambda slots: "".join(map(str, slots)))
@torch.inference_mode()
def test_it_equals_the_eager_step(kit: Kit, slots: list[int]) -> None:
    """Any set of slots in any order, over borders of sizes: same logits, masses and lengths."""
    eager, static, caches = _ready(kit)
    for _ in range(12):
        _assert_same(kit, (eager, static), slots)
    assert caches[0].lengths.tolist() == caches[1].lengths.tolist()


@torch.inference_mode()
def test_it_follows_slots_that_come_and_go(kit: Kit) -> None:
    """Memories replaced, a sequence cancelled, its slot used again: still what the eager says."""
    eager, static, caches = _ready(kit)
    both = (eager, static)
    _assert_same(kit, both, [0, 1, 3])
    for cache in caches:
        cache.attach(1, kit.memories(20, 9, seed=5))
        cache.release(0)
    _assert_same(kit, both, [1, 3, 4])
    for cache in caches:
        cache.attach(3, [])
        kit.model.prefill(cache, 0, torch.tensor(kit.tokens(6, 9)), [kit.memories(8)])
    for slots in ([0, 1, 3, 4], [0], [4, 2], [0, 1, 2, 3, 4]):
        _assert_same(kit, both, slots)


@torch.inference_mode()
def test_who_takes_no_part_keeps_every_byte(kit: Kit) -> None:
    """A step of the last slot alone changes nothing that the slots below it hold, full ones too."""
    _, static, (_, cache) = _ready(kit)
    kit.model.prefill(cache, 0, torch.tensor(kit.tokens(cache.context_length, 1)))
    before = copy.deepcopy([(cache._keys[n][:4], cache._values[n][:4]) for n in range(4)])
    static([4], [7])
    torch.testing.assert_close(
        [(cache._keys[n][:4], cache._values[n][:4]) for n in range(4)], before, rtol=0, atol=0
    )


@torch.inference_mode()
def test_a_full_slot_is_refused_and_nothing_changes(kit: Kit) -> None:
    """The step of a slot that holds all it can names the remedy and counts nothing."""
    _, static, (_, cache) = _ready(kit)
    kit.model.prefill(cache, 0, torch.tensor(kit.tokens(cache.context_length, 1)))
    lengths = cache.lengths.tolist()
    with pytest.raises(InvalidArgumentError, match="already holds 128 tokens") as caught:
        static([1, 0], [7, 8])
    assert caught.value.field == "slots"
    assert cache.lengths.tolist() == lengths


def test_sizes_end_with_the_largest() -> None:
    """Powers of two, and the largest size itself whatever it is."""
    assert sizes_up_to(1) == [1]
    assert sizes_up_to(6) == [1, 2, 4, 6]
    assert sizes_up_to(8) == [1, 2, 4, 8]
    assert sizes_up_to(300, 128) == [128, 256, 300]
    assert sizes_up_to(100, 128) == [100]


def test_graphs_without_a_gpu_are_refused(kit: Kit) -> None:
    """A processor gets the eager step, and an error with a remedy where graphs are asked for."""
    cache = SlotCache(kit.model, num_slots=1)
    assert isinstance(make_step("eager", kit.model, cache), EagerStep)
    with pytest.raises(SettingsError, match="decode_step is graphs") as caught:
        make_step("graphs", kit.model, cache)
    assert caught.value.field == "decode_step"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@torch.inference_mode()
def test_graphs_equal_the_eager_step(kit: Kit, dtype: torch.dtype) -> None:
    """On a GPU, replayed graphs say what the eager step says, with memories, batched and alone."""
    close = CLOSE if dtype == torch.float32 else {"rtol": 0.1, "atol": 0.1}
    model = copy.deepcopy(kit.model).to("cuda", dtype)
    caches = [SlotCache(model, num_slots=5) for _ in range(2)]
    graphed = make_step("graphs", model, caches[1])
    graphed.prepare()
    assert caches[1].lengths.tolist() == [0] * 5
    for cache in caches:
        for slot, number in enumerate([3, 40, 0, 17, 29]):
            prompt = torch.tensor(kit.tokens(number, 50 + slot), dtype=torch.int64, device="cuda")
            model.prefill(cache, slot, prompt)
            cache.attach(slot, kit.memories(*([30, 5, 12][: slot % 4]), seed=60 + slot))
    eager = EagerStep(model, caches[0])
    for slots in SETS:
        tokens = kit.tokens(len(slots), 70)
        for report in (False, True):
            actual = graphed(slots, tokens, report=report)
            for row, (slot, token) in enumerate(zip(slots, tokens, strict=True)):
                alone = eager([slot], [token], report=report)
                torch.testing.assert_close(actual.logits[row : row + 1], alone.logits, **close)
