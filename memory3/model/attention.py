"""Grouped-query self-attention; reading memories is more columns in the same softmax.

Source: paper §4: out_i = softmax(q_i·[K_0…K_4, K_ctx≤i]ᵀ/√d)·[V_0…V_4, V_ctx≤i]·W_O.
Shapes: B batch, T tokens, C columns (keys), H query heads, K KV heads, G = H / K, D head dim,
E width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memory3.model.config import ModelConfig
from memory3.model.rope import apply_rope


@dataclass
class HeadStates:
    """Heads of one layer. `keys` and `queries` are rotated; the `*_unrotated` are not.

    Selection compares unrotated heads (paper §3.3), attention rotated ones. Where a model
    normalises queries and keys, all are meant after that, so that selection compares what
    attention compares, but for the positions. `inputs` is what they were projected from, the
    normed hidden state that the layer reads: pooled, it embeds the text in the pass that writes
    its memory.
    """

    queries: Tensor  # [B, H, T, D]
    keys: Tensor  # [B, K, T, D]
    values: Tensor  # [B, K, T, D]
    queries_unrotated: Tensor  # [B, H, T, D]
    keys_unrotated: Tensor  # [B, K, T, D]
    inputs: Tensor  # [B, T, E]


class Attention(nn.Module):
    """Projections of one layer, and attention over given columns."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads = config.num_heads, config.num_kv_heads
        self.head_dim = config.head_dim
        queries, pairs = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        bias = config.attention_bias != "none"
        self.wq = nn.Linear(config.width, queries, bias=bias)
        self.wk = nn.Linear(config.width, pairs, bias=bias)
        self.wv = nn.Linear(config.width, pairs, bias=bias)
        self.wo: nn.Module = nn.Linear(queries, config.width, bias=config.attention_bias == "all")
        # In place of the first three, where the model is packed.
        self.joined: nn.Module | None = None
        self._widths = (queries, pairs, pairs)
        self.qk_norm = config.qk_norm
        if self.qk_norm:
            self.q_norm = nn.RMSNorm(self.head_dim, eps=config.norm_eps)
            self.k_norm = nn.RMSNorm(self.head_dim, eps=config.norm_eps)

    def project(self, x_BTE: Tensor, table: tuple[Tensor, Tensor]) -> HeadStates:
        """Queries, keys and values of the tokens, rotated and not."""
        B, T, _ = x_BTE.shape
        if self.joined is not None and not self.qk_norm:
            # Queries and keys are rotated together: half the operations of a decoding step's rope.
            heads = self.joined(x_BTE).view(B, T, -1, self.head_dim).transpose(1, 2)
            H, pairs = self.num_heads, self.num_heads + self.num_kv_heads
            plain, v = heads[:, :pairs], heads[:, pairs:]
            turned = apply_rope(plain, table)
            return HeadStates(turned[:, :H], turned[:, H:], v, plain[:, :H], plain[:, H:], x_BTE)
        if self.joined is None:
            flat = self.wq(x_BTE), self.wk(x_BTE), self.wv(x_BTE)
        else:
            flat = self.joined(x_BTE).split(self._widths, dim=-1)
        q, k, v = (part.view(B, T, -1, self.head_dim).transpose(1, 2) for part in flat)
        if self.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        return HeadStates(apply_rope(q, table), apply_rope(k, table), v, q, k, x_BTE)

    def attend(self, q_BHTD: Tensor, k_BKCD: Tensor, v_BKCD: Tensor, mask: Tensor) -> Tensor:
        """One joint softmax over all columns, then the output projection.

        Args:
            q_BHTD: Rotated queries.
            k_BKCD: Rotated keys, of memories and context alike.
            v_BKCD: Values.
            mask: Bool (true = may attend) or float (added to the logits), broadcastable to
                [B, H, T, C].

        Returns:
            [B, T, E].
        """
        if q_BHTD.requires_grad and q_BHTD.device.type == "cpu":
            return self.output(_attend_plainly(q_BHTD, k_BKCD, v_BKCD, as_bias(mask, q_BHTD.dtype)))
        if mask.dtype != torch.bool:
            mask = mask.to(q_BHTD.dtype)
        grouped = self.num_heads > self.num_kv_heads
        if grouped and q_BHTD.shape[2] == 1 and (mask.dim() < 3 or mask.shape[-3] == 1):
            # The queries that share a KV head, as if they were tokens: one small product for each
            # KV head in place of one for each query head. In bfloat16 a seventh of the time.
            rows = q_BHTD.reshape(len(q_BHTD), self.num_kv_heads, -1, self.head_dim)
            out = F.scaled_dot_product_attention(rows, k_BKCD, v_BKCD, attn_mask=mask)
            return self.output(out.reshape(q_BHTD.shape))
        out = F.scaled_dot_product_attention(
            q_BHTD, k_BKCD, v_BKCD, attn_mask=mask, enable_gqa=grouped
        )
        return self.output(out)

    def output(self, out_BHTD: Tensor) -> Tensor:
        """Join the heads and project them to the width."""
        joined: Tensor = self.wo(out_BHTD.transpose(1, 2).flatten(2))
        return joined

    def weights(self, q_BHTD: Tensor, k_BKCD: Tensor, mask_bool: Tensor) -> Tensor:
        """Attention probabilities, float32 [B, H, T, C]: the proof of what was read."""
        keys = k_BKCD.repeat_interleave(self.num_heads // self.num_kv_heads, dim=1)
        logits = (q_BHTD.float() @ keys.float().transpose(-1, -2)) * self.head_dim**-0.5
        masked: Tensor = logits.masked_fill(~mask_bool, float("-inf"))
        return masked.softmax(dim=-1)


def as_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask in the form that is added to the logits; a float mask is that already."""
    if mask.dtype != torch.bool:
        return mask
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill(~mask, float("-inf"))


def _attend_plainly(q_BHTD: Tensor, k_BKCD: Tensor, v_BKCD: Tensor, bias: Tensor) -> Tensor:
    """Attention as two matrix products, for training on a CPU.

    There the fused kernel's backward pass took 2.5 times as long (head dim 32, 300 tokens), and
    it gives no gradient to the bias, through which selection learns.
    """
    B, H, T, D = q_BHTD.shape
    K, C = k_BKCD.shape[1], k_BKCD.shape[2]
    grouped = q_BHTD.reshape(B, K, H // K * T, D)  # query heads that share a KV head, one matrix
    logits = (grouped @ k_BKCD.transpose(-1, -2)).view(B, H, T, C) * D**-0.5 + bias
    weights = logits.softmax(dim=-1).to(v_BKCD.dtype)
    out: Tensor = weights.view(B, K, H // K * T, C) @ v_BKCD
    return out.view(B, H, T, D)
