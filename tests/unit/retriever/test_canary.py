"""How far two memories are apart, for every codec's form of values."""

from __future__ import annotations

import numpy as np
import pytest
from memory3_retriever.canary.comparing import TOLERANCE, difference

from memory3.errors import CorruptDataError
from memory3.memory.envelope import Envelope, pack

SHAPE = (2, 2, 2, 4, 16)
NUM_VALUES = int(np.prod(SHAPE))


def _memory(seed: int, codec: str = "raw", *, noise: float = 0.0, tokens: int = 0) -> bytes:
    """A memory of a made-up text; ``noise`` moves its values, ``tokens`` its last kept token."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(NUM_VALUES).astype(np.float32)
    values += noise * np.random.default_rng(99).standard_normal(NUM_VALUES).astype(np.float32)
    if codec == "raw":
        payload = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    elif codec == "int8":
        rows = values.reshape(-1, SHAPE[-1])
        scales = (np.abs(rows).max(axis=1, keepdims=True) / 127).astype("<f2")
        codes = np.rint(rows / scales.astype(np.float32)).clip(-127, 127).astype(np.int8)
        payload = scales.tobytes() + codes.tobytes()
    else:
        # A code moves where its value comes near a border.
        payload = np.floor(values * 8).astype(np.int8).tobytes()
    positions = np.tile(np.array([1, 3, 5, 7 + tokens], np.uint8), (2, 2, 1))
    return pack(Envelope("a" * 64, codec, codec, SHAPE, 4, positions, payload))


@pytest.mark.parametrize("codec", ["raw", "int8", "opq"])
def test_the_same_bytes_are_no_difference(codec: str) -> None:
    """What was written twice alike is exact."""
    assert difference(_memory(1, codec), _memory(1, codec)) == 0.0


@pytest.mark.parametrize("codec", ["raw", "int8", "opq"])
def test_rounding_is_within_the_tolerance(codec: str) -> None:
    """Values that moved by a hundredth, as in bfloat16 on another device, are close."""
    assert 0.0 < difference(_memory(1, codec), _memory(1, codec, noise=0.01)) < TOLERANCE / 2


@pytest.mark.parametrize("codec", ["raw", "int8", "opq"])
def test_another_text_is_far_beyond_it(codec: str) -> None:
    """Of two texts hardly a value agrees."""
    assert difference(_memory(1, codec), _memory(2, codec)) > 2 * TOLERANCE


def test_another_kept_token_alone_is_no_mismatch() -> None:
    """Only tokens that both keep are compared; one of four may be another."""
    assert difference(_memory(1), _memory(1, tokens=1)) == 0.0


def test_what_cannot_be_compared_differs_in_all() -> None:
    """Another codec is another memory, and bytes that are none are damaged."""
    assert difference(_memory(1), _memory(1, "int8")) == 1.0
    with pytest.raises(CorruptDataError):
        difference(b"nothing", _memory(1))
