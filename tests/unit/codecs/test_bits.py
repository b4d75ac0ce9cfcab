"""Codes as bytes: numbers come back, and whatever the bytes, no number leaves its codebook."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memory3.codecs.bits import CodeLayout
from tests.strategies import seeds

layouts = st.builds(CodeLayout, st.integers(1, 16), st.integers(1, 20), st.integers(1, 16))


@given(layouts, seeds)
def test_numbers_come_back(layout: CodeLayout, seed: int) -> None:
    """Packed into as many bytes as the layout says, and unpacked again."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(1 << layout.coarse_bits, (5, 2), generator=generator)
    fine = torch.randint(1 << layout.fine_bits, (5, layout.num_parts), generator=generator)
    codes = layout.pack(coarse, fine)
    assert (codes.dtype, codes.shape) == (torch.uint8, (5, layout.num_bytes))
    again = layout.unpack(codes)
    assert torch.equal(coarse, again[0])
    assert torch.equal(fine, again[1])


@given(layouts, seeds)
def test_no_number_leaves_its_codebook(layout: CodeLayout, seed: int) -> None:
    """Random bytes are some code, never a look-up outside of a table."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(256, (9, layout.num_bytes), generator=generator).to(torch.uint8)
    coarse, fine = layout.unpack(codes)
    assert (coarse.min() >= 0, coarse.max() < 1 << layout.coarse_bits) == (True, True)
    assert (fine.min() >= 0, fine.max() < 1 << layout.fine_bits) == (True, True)


def test_the_bytes_are_those_of_faiss() -> None:
    """Coarse numbers little-endian in whole bytes, then fine ones, lowest bits first, no gaps."""
    layout = CodeLayout(coarse_bits=14, num_parts=3, fine_bits=10)
    codes = layout.pack(torch.tensor([[0x1234, 0x2ABC]]), torch.tensor([[0x3FF, 0, 0x201]]))
    whole = 0x1234 | 0x2ABC << 14
    parts = 0x3FF | 0x201 << 20
    assert bytes(codes[0].tolist()) == whole.to_bytes(4, "little") + parts.to_bytes(4, "little")


@pytest.mark.parametrize(("layout", "size"), [((14, 8, 10), 14), ((12, 4, 10), 8), ((1, 1, 1), 2)])
def test_sizes(layout: tuple[int, int, int], size: int) -> None:
    """Whole bytes for the coarse numbers together, and for the fine ones together."""
    assert CodeLayout(*layout).num_bytes == size
