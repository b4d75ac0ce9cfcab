"""Changing logits before a token is chosen: bias, penalties, tokens that may not come yet.

All of it works on a batch [B, V] in place, row by row independent of the other rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memory3_decoder.sampling.state import SamplingState

_HUGE = 1e30


def adjust(logits: Tensor, states: Sequence[SamplingState]) -> None:
    """Apply bias, then penalties, then the mask of end tokens before ``min_tokens``.

    Args:
        logits: float32 [B, V], changed in place.
        states: One for each row.
    """
    _add_bias(logits, states)
    _penalise(logits, states)
    _mask_early_ends(logits, states)


def _add_bias(logits: Tensor, states: Sequence[SamplingState]) -> None:
    entries = [
        (row, token, bias)
        for row, state in enumerate(states)
        for token, bias in state.parameters.logit_bias.items()
    ]
    if entries:
        rows, tokens, biases = zip(*entries, strict=True)
        logits[_index(rows, logits), _index(tokens, logits)] += logits.new_tensor(biases)


def _penalise(logits: Tensor, states: Sequence[SamplingState]) -> None:
    rows, seen, counts, strengths = [], [], [], []
    for row, state in enumerate(states):
        state.prepare(logits.shape[1], logits.device)
        if state.seen is None or state.counts is None:
            continue
        rows.append(row)
        seen.append(state.seen)
        counts.append(state.counts)
        p = state.parameters
        strengths.append((p.repetition_penalty, p.presence_penalty, p.frequency_penalty))
    if not rows:
        return
    chosen = _index(rows, logits)
    part, count = logits[chosen], torch.stack(counts)
    repetition, presence, frequency = logits.new_tensor(strengths)[:, :, None].unbind(1)
    pushed = torch.where(part > 0, part / repetition, part * repetition)
    # A tiny penalty pushes logits past what a float holds; finite, they stay comparable.
    part = torch.where(torch.stack(seen), pushed, part).clamp(-_HUGE, _HUGE)
    logits[chosen] = part - frequency * count - presence * (count > 0)


def _mask_early_ends(logits: Tensor, states: Sequence[SamplingState]) -> None:
    entries = [
        (row, token)
        for row, state in enumerate(states)
        if state.num_generated < state.parameters.min_tokens
        for token in state.end_ids
    ]
    if entries:
        rows, tokens = zip(*entries, strict=True)
        logits[_index(rows, logits), _index(tokens, logits)] = float("-inf")


def _index(values: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=like.device)
