"""Rotary position embedding in the half-split form that Llama and Qwen checkpoints use.

Source: paper §2 (RoPE, base 10,000). Shapes: B batch, T tokens, H heads, D head dim.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rope_table(positions: Tensor, head_dim: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotation angles, computed in float32.

    Args:
        positions: Integer positions of any shape [...].
        head_dim: Even width of a head.
        base: RoPE base.

    Returns:
        cos and sin, each float32 [..., head_dim / 2].
    """
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32)
    frequencies = base ** (-exponents / head_dim)
    angles = positions.to(torch.float32)[..., None] * frequencies
    return angles.cos(), angles.sin()


def apply_rope(x_BHTD: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate heads to their positions.

    Args:
        x_BHTD: Queries or keys.
        table: cos and sin of `rope_table`, [T, D/2] or [B, 1, T, D/2].

    Returns:
        Rotated heads, same shape and dtype.
    """
    cos, sin = (part.to(x_BHTD.dtype) for part in table)
    first, second = x_BHTD.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
