"""One Hypothesis vocabulary for all property tests: shapes, envelopes, heads of references.

Tensors come from a drawn seed rather than element by element: what matters is that all shapes,
lengths and places are tried, and a failing example names the seed.
"""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st

from memory3.memory.envelope import Envelope
from memory3.memory.selectors.base import ReferenceStates

seeds = st.integers(0, 2**31 - 1)

digests = st.binary(min_size=32, max_size=32).map(bytes.hex)

names = st.text(
    st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=16
)  # what the envelope's name fields hold


@st.composite
def memory_shapes(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """Shapes of memories: (memory layers, 2, KV heads, tokens kept, head dim)."""
    return (
        draw(st.integers(1, 4)),
        2,
        draw(st.integers(1, 4)),
        draw(st.integers(1, 8)),
        2 * draw(st.integers(1, 16)),
    )


@st.composite
def key_values(draw: st.DrawFn, largest: float = 100.0) -> torch.Tensor:
    """Key-values of a memory, float32, whose vectors have sizes from 1e-6 to ``largest``."""
    shape = draw(memory_shapes())
    generator = torch.Generator().manual_seed(draw(seeds))
    exponents = torch.rand(*shape[:-1], 1, generator=generator)
    sizes = 1e-6 * (largest / 1e-6) ** exponents
    directions = 2 * torch.rand(shape, generator=generator) - 1
    if draw(st.booleans()):  # a short reference leaves zeros
        directions[..., draw(st.integers(0, shape[3] - 1)) :, :] = 0
    return directions * sizes


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    """Well-formed envelopes; the payload is any bytes, since envelopes know no codec."""
    shape = draw(memory_shapes())
    layers, _, heads, tokens, _ = shape
    rng = np.random.default_rng(draw(seeds))
    return Envelope(
        checkpoint_digest=draw(digests),
        codec=draw(names),
        dtype=draw(names),
        shape=shape,
        num_kept=draw(st.integers(1, tokens)),
        positions=rng.integers(0, 256, (layers, heads, tokens), dtype=np.uint8),
        payload=draw(st.binary(max_size=200)),
    )


@st.composite
def reference_states(draw: st.DrawFn, max_tokens: int = 24) -> ReferenceStates:
    """Heads of a padded batch of references; padding holds large numbers, not zeros."""
    num_references, num_kv_heads = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    groups, width = draw(st.integers(1, 3)), 2 * draw(st.integers(1, 8))
    lengths = [draw(st.integers(1, max_tokens)) for _ in range(num_references)]
    padded = max(lengths) + draw(st.integers(0, 5))
    generator = torch.Generator().manual_seed(draw(seeds))
    valid = torch.arange(padded) < torch.tensor(lengths)[:, None]

    def heads(number: int) -> torch.Tensor:
        drawn = torch.randn(num_references, number, padded, width, generator=generator)
        return torch.where(valid[:, None, :, None], drawn, 50 * drawn)

    return ReferenceStates(
        heads(num_kv_heads * groups), heads(num_kv_heads), heads(num_kv_heads), valid
    )
