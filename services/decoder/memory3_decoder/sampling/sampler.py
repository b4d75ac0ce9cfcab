"""Choosing one token for every row of a batch.

A row's token depends on that row alone: greedy rows, rows drawn from the whole distribution and
rows with filters go separate ways whatever their neighbours ask for, and every drawn row spends
exactly one random number of its own. Filters apply in the order top-k, top-p, min-p, after the
temperature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memory3_decoder.events import TokenLogprob
from memory3_decoder.sampling.logits import adjust
from memory3_decoder.sampling.state import SamplingState


@dataclass(frozen=True)
class Sampled:
    """The token chosen for a row.

    Attributes:
        token: Its id.
        logprob: Its log-probability in the raw distribution, if asked for.
    """

    token: int
    logprob: TokenLogprob | None = None


def sample(logits: Tensor, states: Sequence[SamplingState]) -> list[Sampled]:
    """Choose the next token of every sequence and note it in its state.

    Args:
        logits: float32 [B, V], as the model gave them; changed in place.
        states: One for each row.
    """
    raw = _raw_logprobs(logits, states)
    adjust(logits, states)
    tokens = [0] * len(states)
    greedy = [row for row, state in enumerate(states) if state.parameters.temperature == 0.0]
    drawn = [row for row, state in enumerate(states) if state.parameters.temperature > 0.0]
    plain = [row for row in drawn if not states[row].parameters.has_filters]
    filtered = [row for row in drawn if states[row].parameters.has_filters]
    for rows, choose in ((greedy, _likeliest), (plain, _draw), (filtered, _draw_filtered)):
        if rows:
            chosen = choose(logits[rows], [states[row] for row in rows])
            for row, token in zip(rows, chosen, strict=True):
                tokens[row] = token
    for token, state in zip(tokens, states, strict=True):
        state.record(token)
    return _with_logprobs(tokens, states, raw)


def _likeliest(logits: Tensor, _: Sequence[SamplingState]) -> list[int]:
    chosen: list[int] = logits.argmax(dim=-1).tolist()
    return chosen


def _draw(logits: Tensor, states: Sequence[SamplingState]) -> list[int]:
    chosen: list[int] = _invert(_probabilities(logits, states), states).tolist()
    return chosen


def _draw_filtered(logits: Tensor, states: Sequence[SamplingState]) -> list[int]:
    ordered, tokens = torch.sort(logits, dim=-1, descending=True, stable=True)
    kept = _filter(_probabilities(ordered, states), states)
    chosen: list[int] = tokens.gather(1, _invert(kept, states)[:, None])[:, 0].tolist()
    return chosen


def _probabilities(logits: Tensor, states: Sequence[SamplingState]) -> Tensor:
    """float64 [B, V]; the largest logit is taken off first, so no temperature overflows."""
    temperatures = logits.new_tensor([[s.parameters.temperature] for s in states]).double()
    lowered = logits.double() - logits.double().amax(dim=-1, keepdim=True)
    return torch.softmax(lowered / temperatures, dim=-1)


def _filter(probabilities: Tensor, states: Sequence[SamplingState]) -> Tensor:
    """Drop tokens from probabilities in falling order; the likeliest always stays."""
    size = probabilities.shape[1]
    column = probabilities.new_tensor
    top_k = column([[s.parameters.top_k or size] for s in states])
    top_p = column([[s.parameters.top_p] for s in states])
    min_p = column([[s.parameters.min_p] for s in states])
    rank = torch.arange(size, device=probabilities.device)
    kept = probabilities * (rank < top_k)
    share = kept / kept.sum(dim=-1, keepdim=True)
    # A token stays while the total before it has not reached top_p.
    before = share.cumsum(dim=-1) - share
    kept = kept * ((before < top_p) | (rank == 0))
    return kept * (kept >= min_p * kept[:, :1])


def _invert(probabilities: Tensor, states: Sequence[SamplingState]) -> Tensor:
    """The column at which the running total passes the row's random number, int64 [B]."""
    totals = probabilities.cumsum(dim=-1)
    points = probabilities.new_tensor([[state.uniform()] for state in states]) * totals[:, -1:]
    # Rounding can put the point on the total itself; the last column with any probability is meant.
    last = (totals < totals[:, -1:]).sum(dim=-1)
    return torch.minimum((totals <= points).sum(dim=-1), last)


def _raw_logprobs(logits: Tensor, states: Sequence[SamplingState]) -> dict[int, Tensor]:
    rows = [row for row, state in enumerate(states) if state.parameters.logprobs is not None]
    if not rows:
        return {}
    return dict(zip(rows, torch.log_softmax(logits[rows], dim=-1).unbind(0), strict=True))


def _with_logprobs(
    tokens: Sequence[int], states: Sequence[SamplingState], raw: dict[int, Tensor]
) -> list[Sampled]:
    sampled = []
    for row, (token, state) in enumerate(zip(tokens, states, strict=True)):
        if row not in raw:
            sampled.append(Sampled(token))
            continue
        num_top = min(state.parameters.logprobs or 0, raw[row].shape[0])
        values, ids = torch.topk(raw[row], num_top)
        top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
        sampled.append(Sampled(token, TokenLogprob(token, float(raw[row][token]), top)))
    return sampled
