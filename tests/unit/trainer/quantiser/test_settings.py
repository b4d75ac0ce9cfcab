"""How large a quantiser is, by head dim, and what is refused."""

from __future__ import annotations

from typing import Any

import faiss
import pytest
from memory3_trainer.quantiser.settings import QuantiserSettings

from memory3.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("head_dim", "factory", "num_bytes"),
    [
        (16, "OPQ4_16,Residual2x8,PQ8x8", 10),
        (32, "OPQ8_32,Residual2x8,PQ16x8", 18),
        (48, "OPQ12_48,Residual2x8,PQ24x8", 26),
        (64, "OPQ16_64,Residual2x8,PQ32x8", 34),
        (80, "OPQ20_80,Residual2x14,PQ8x10", 14),
        (96, "OPQ24_96,Residual2x14,PQ12x10", 19),
        (128, "OPQ32_128,Residual2x14,PQ16x10", 24),
    ],
)
def test_sizes_by_head_dim(head_dim: int, factory: str, num_bytes: int) -> None:
    """The paper's for 80; faiss reads each name and says the same size."""
    settings = QuantiserSettings(head_dim)
    assert (settings.factory, settings.layout.num_bytes) == (factory, num_bytes)
    assert faiss.index_factory(head_dim, factory).sa_code_size() == num_bytes


def test_a_size_may_be_chosen() -> None:
    """Bits and parts given win over the rule."""
    settings = QuantiserSettings(32, coarse_bits=6, num_parts=4, fine_bits=8)
    assert settings.factory == "OPQ8_32,Residual2x6,PQ4x8"
    assert (settings.num_needed, settings.num_vectors) == (256, 64 * 256)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("head_dim", 31),
        ("head_dim", 0),
        ("coarse_bits", 0),
        ("coarse_bits", 16),
        ("num_parts", 5),
        ("num_parts", 0),
        ("fine_bits", 13),
        ("vectors_per_centroid", 0),
        ("rotation_steps", 0),
    ],
)
def test_what_cannot_be_trained_is_refused(field: str, value: int) -> None:
    """At construction, by the name of the field."""
    values: dict[str, Any] = {"head_dim": 32, field: value}
    with pytest.raises(InvalidArgumentError) as caught:
        QuantiserSettings(**values)
    assert caught.value.field == field
    assert caught.value.remedy
