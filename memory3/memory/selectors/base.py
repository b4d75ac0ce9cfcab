"""What a selector is: a score for every token of a reference, per KV head.

Source: paper §3.3. The choice itself (highest scores, in order of position) is `select`.
Shapes: B references, N reference tokens (prefix excluded, padded), H query heads, K KV heads,
G = H / K, D head dim.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class ReferenceStates:
    """Heads of one memory layer over the tokens of B references, without rotation.

    Attributes:
        queries: [B, H, N, D].
        keys: [B, K, N, D].
        values: [B, K, N, D].
        valid: Bool [B, N], false for padding.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    valid: Tensor


class Selector(ABC):
    """Scores tokens; the highest are kept."""

    name: ClassVar[str]

    @abstractmethod
    def scores(self, states: ReferenceStates) -> Tensor:
        """Score every token for every KV head.

        Returns:
            float32 [B, K, N]; the values at padding do not matter. Differentiable where the rule
            is, so that training can teach what is kept.
        """


def select(scores_BKN: Tensor, valid_BN: Tensor, count: int) -> Tensor:
    """Indices of the `count` highest scores in order of position, [B, K, count].

    Padding comes last and ties go to the earlier token. Where a reference has fewer than `count`
    tokens, the first entries are all it has and the rest point at padding.
    """
    # A token that occurs twice has the same score in the first layer but for rounding, which
    # differs with the size of a batch; equal to four digits is a tie.
    masked = scores_BKN.round(decimals=4).masked_fill(~valid_BN[:, None, :], float("-inf"))
    order = masked.argsort(dim=-1, descending=True, stable=True)[..., :count]
    rank = order + (~valid_BN[:, None, :].expand_as(masked).gather(-1, order)) * masked.shape[-1]
    return order.gather(-1, rank.argsort(dim=-1, stable=True))


def repeat_first(score_N: Tensor, states: ReferenceStates) -> Tensor:
    """The same scores [N] for all references and KV heads: [B, K, N]."""
    B, K, N, _ = states.keys.shape
    return score_N.to(torch.float32).expand(B, K, N)
