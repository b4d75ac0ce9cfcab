"""Rotary position embedding in the half-split form that Llama and Qwen checkpoints use.

Source: paper §2 (RoPE, base 10,000); the scaled forms are those of converted checkpoints
(`memory3.model.rope_scaling`). Shapes: B batch, T tokens, H heads, D head dim.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from memory3.model.rope_scaling import RopeScaling


def rope_table(
    positions: Tensor, head_dim: int, base: float, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotation angles, computed in float32.

    Args:
        positions: Integer positions of any shape [...].
        head_dim: Even width of a head.
        base: RoPE base.
        scaling: How the frequencies are stretched, if they are.

    Returns:
        cos and sin, each float32 [..., head_dim / 2].
    """
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32)
    frequencies = base ** (-exponents / head_dim)
    if scaling is not None:
        frequencies = scaled(frequencies, base, scaling)
    angles = positions.to(torch.float32)[..., None] * frequencies
    if scaling is None or scaling.attention_factor == 1.0:
        return angles.cos(), angles.sin()
    return angles.cos() * scaling.attention_factor, angles.sin() * scaling.attention_factor


def scaled(frequencies: Tensor, base: float, scaling: RopeScaling) -> Tensor:
    """Stretched rotary frequencies, [D/2] as the plain ones."""
    slowed = frequencies / scaling.factor
    if scaling.kind == "linear":
        return slowed
    if scaling.kind == "llama3":
        turns = frequencies * scaling.original_length / (2 * math.pi)
        low, high = scaling.low_freq_factor, scaling.high_freq_factor
        kept = ((turns - low) / (high - low)).clamp(0, 1)
    else:
        first, last = _yarn_range(2 * len(frequencies), base, scaling)
        places = torch.arange(len(frequencies), device=frequencies.device, dtype=torch.float32)
        kept = 1 - ((places - first) / (last - first)).clamp(0, 1)
    return slowed * (1 - kept) + frequencies * kept


def _yarn_range(head_dim: int, base: float, scaling: RopeScaling) -> tuple[float, float]:
    """The dimensions between which frequencies pass from kept to slowed."""

    def dimension(turns: float) -> float:
        waves = scaling.original_length / (turns * 2 * math.pi)
        return head_dim * math.log(waves) / (2 * math.log(base))

    first, last = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    return first, last if last != first else last + 0.001


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
