"""One transformer block: RMSNorm, attention, RMSNorm, SwiGLU.

Source: paper §2, whose models have no biases; converted ones may.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from memory3.model.attention import Attention
from memory3.model.config import ModelConfig


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) · w3 x)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.width, config.mlp_width, bias=config.mlp_bias)
        self.w3 = nn.Linear(config.width, config.mlp_width, bias=config.mlp_bias)
        self.w2: nn.Module = nn.Linear(config.mlp_width, config.width, bias=config.mlp_bias)
        # In place of the first two, where the model is packed.
        self.joined: nn.Module | None = None

    def forward(self, x_BTE: Tensor) -> Tensor:
        """[B, T, E] to [B, T, E]."""
        if self.joined is None:
            gate, up = self.w1(x_BTE), self.w3(x_BTE)
        else:
            gate, up = self.joined(x_BTE).chunk(2, dim=-1)
        out: Tensor = self.w2(F.silu(gate) * up)
        return out


class Block(nn.Module):
    """A pre-norm block. The caller runs attention, because it owns the columns that are read."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.attention = Attention(config)
        self.mlp_norm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.mlp = FeedForward(config)

    def finish(self, x_BTE: Tensor, attended_BTE: Tensor) -> Tensor:
        """Add what attention read, then the feed-forward part."""
        x_BTE = x_BTE + attended_BTE
        out: Tensor = x_BTE + self.mlp(self.mlp_norm(x_BTE))
        return out
