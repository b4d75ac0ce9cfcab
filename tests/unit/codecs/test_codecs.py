"""What the two built-in codecs promise beyond the contract of the family."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given

from memory3.codecs.base import Codec, Shape
from memory3.codecs.int8 import Int8Codec
from memory3.codecs.raw import RawCodec
from memory3.errors import InvalidArgumentError
from tests.strategies import key_values, memory_shapes

CPU = torch.device("cpu")


def _there_and_back(codec: Codec, values: torch.Tensor) -> torch.Tensor:
    payload = codec.encode(values)
    shape = tuple(values.shape)
    assert len(shape) == 5
    assert codec.payload_bytes(shape) == len(payload)
    return codec.decode(payload, shape, dtype=torch.float32, device=CPU)


@given(memory_shapes())
def test_sizes_follow_their_formulas(shape: Shape) -> None:
    """Raw: 2 bytes a number. int8: 1 byte a number and 2 a vector."""
    layers, pair, heads, tokens, width = shape
    vectors = layers * pair * heads * tokens
    assert RawCodec().payload_bytes(shape) == 2 * vectors * width
    assert Int8Codec().payload_bytes(shape) == vectors * (width + 2)


@given(key_values())
def test_raw_is_bfloat16(values: torch.Tensor) -> None:
    """Exactly the rounding to bfloat16, and nothing else."""
    assert torch.equal(_there_and_back(RawCodec(), values), values.to(torch.bfloat16).float())


def test_raw_bytes_are_little_endian_and_in_order() -> None:
    """The upper half of each float32, lower byte first."""
    values = torch.tensor([1.0, -2.5, 0.0, 3.0]).view(1, 2, 1, 1, 2)
    expected = values.flatten().numpy().astype("<f4").tobytes()
    halves = b"".join(expected[place + 2 : place + 4] for place in range(0, 16, 4))
    assert RawCodec().encode(values) == halves


@given(key_values(largest=1e5))
def test_int8_errs_by_half_a_step(values: torch.Tensor) -> None:
    """max|vector| / 254, beside what the float16 of the scale rounds off."""
    error = (_there_and_back(Int8Codec(), values) - values).abs()
    largest = values.abs().amax(-1, keepdim=True)
    assert (error <= largest / 254 * (1 + 2**-9) + 127 * 2.0**-25).all()


def test_int8_keeps_zero_and_sign() -> None:
    """Zero stays zero, and x and -x stay opposite."""
    values = torch.tensor([[0.0, 1.0, -1.0, 0.25, -0.25], [0.0] * 5]).view(1, 2, 1, 1, 5)
    decoded = _there_and_back(Int8Codec(), values)
    assert (decoded[values == 0] == 0).all()
    assert decoded[0, 0, 0, 0, 1] == -decoded[0, 0, 0, 0, 2]
    assert decoded[0, 0, 0, 0, 3] == -decoded[0, 0, 0, 0, 4]


def test_int8_bytes_are_scales_then_codes() -> None:
    """float16 scales first, all together, then one signed byte a number."""
    values = torch.tensor([[127.0, -64.0], [2 * 127.0, 4.0]]).view(1, 2, 1, 1, 2)
    scales, codes = np.array([1, 2], "<f2").tobytes(), np.array([127, -64, 127, 2], "i1").tobytes()
    assert Int8Codec().encode(values) == scales + codes


@pytest.mark.parametrize(
    ("codec", "largest"),
    [(RawCodec(), 3.38e38), (Int8Codec(), 127 * 65_504.0)],
    ids=["raw", "int8"],
)
def test_numbers_beyond_the_format_are_refused(codec: Codec, largest: float) -> None:
    """The largest number fits; one that would turn into infinity, or be cut, does not."""
    values = torch.full((1, 2, 1, 1, 2), largest)
    torch.testing.assert_close(_there_and_back(codec, values), values, rtol=1e-2, atol=0)
    values[0, 0, 0, 0, 0] = min(largest * 1.01, 3.4028e38)
    with pytest.raises(InvalidArgumentError) as caught:
        codec.encode(values)
    assert caught.value.field == "key_values"
