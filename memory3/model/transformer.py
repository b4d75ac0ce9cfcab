"""The whole transformer: training forward, writing half, prefill and decoding.

Source: paper §2 to §4. Memories are extra columns of the joint softmax in the memory layers; the
other layers never see them.
Shapes: B batch, T tokens, P prefix tokens, M memory columns, C columns, K KV heads, D head dim,
E width, V vocabulary, L layers, R references, S slots.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from memory3.memory.layout import Layout
from memory3.memory.tensors import MemoryTensors
from memory3.model.attention import HeadStates, as_bias
from memory3.model.block import Block
from memory3.model.cache import SlotCache
from memory3.model.config import MemoryConfig, ModelConfig
from memory3.model.rope import rope_table


@dataclass
class LayerMemory:
    """Memory columns of one layer for a training forward.

    Attributes:
        keys: Rotated keys [B, K, M, D].
        values: Values [B, K, M, D].
        bias: Added to the attention logits [B, K, M], minus infinity where a column is padding.
    """

    keys: Tensor
    values: Tensor
    bias: Tensor


@dataclass
class StepOutput:
    """What a prefill or a decoding step gives.

    Attributes:
        logits: float32, [B, V] for a step; [1, V] or a row for every token for a prefill, and one
            for the separator where it was read.
        mass: Share of attention on every memory, mean over memory layers and query heads:
            [num_chunks, R] for a prefill (mean over the tokens of the chunk), [B, R] for a step.
    """

    logits: Tensor
    mass: Tensor | None = None


class Transformer(nn.Module):
    """A decoder-only transformer of `ModelConfig`.

    Attributes:
        checkpoint_activations: Compute each layer of the training forward again in the backward
            pass instead of keeping what it computed; slower, in far less memory.
    """

    checkpoint_activations = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.layout = Layout.of(config)
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.width, eps=config.norm_eps)
        # None where the embedding is the output matrix as well.
        self.head: nn.Module | None = None
        if not config.tie_embeddings:
            self.head = nn.Linear(config.width, config.vocab_size, bias=False)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw fresh weights: N(0, 1/√fan_in), residual outputs scaled by 1/√(2L).

        At the paper's width of 3200, 1/√fan_in is 0.0177, its N(0, 0.02) within a tenth; at small
        widths 0.02 is too small to leave the start (see docs/experiments.md).
        """
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                nn.init.constant_(parameter, 0.0 if name.endswith(".bias") else 1.0)
                continue
            std = 0.05 if "embedding" in name else parameter.shape[1] ** -0.5
            if name.endswith(("wo.weight", "w2.weight")):
                std /= math.sqrt(2 * self.config.num_layers)
            nn.init.normal_(parameter, std=std, generator=generator)

    def with_memory(self, memory: MemoryConfig) -> Transformer:
        """The very same weights with another shape of memories.

        Raises:
            InvalidArgumentError: A field is out of range.
        """
        other = copy.copy(self)
        other.config = replace(self.config, memory=memory)
        other.layout = Layout.of(other.config)
        return other

    @property
    def layers(self) -> Sequence[Block]:
        """The blocks from the bottom."""
        return cast("Sequence[Block]", self.blocks)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights, and so of caches and memories."""
        return self.embedding.weight.dtype

    def rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The rotation table of positions."""
        config = self.config
        return rope_table(positions, config.head_dim, config.rope_base, config.rope_scaling)

    def logits(self, x_BTE: Tensor) -> Tensor:
        """Final norm and output matrix; float32 [B, T, V]."""
        x_BTE = self.norm(x_BTE)
        if self.head is None:
            return nn.functional.linear(x_BTE, self.embedding.weight).float()
        logits: Tensor = self.head(x_BTE)
        return logits.float()

    def output_matrix(self) -> nn.Linear:
        """The output matrix as a layer; of tied embeddings it is the embedding."""
        if isinstance(self.head, nn.Linear):
            return self.head
        with torch.device("meta"):
            head = nn.Linear(self.config.width, self.config.vocab_size, bias=False)
        head.weight = nn.Parameter(self.embedding.weight.detach(), requires_grad=False)
        return head

    def forward(
        self,
        tokens_BT: Tensor,
        positions: Tensor,
        mask: Tensor,
        memory: Sequence[LayerMemory] = (),
        reads: Tensor | None = None,
    ) -> Tensor:
        """Final hidden states of whole sequences (training and tests).

        Args:
            tokens_BT: Token ids.
            positions: [T], or [B, 1, T] where sequences differ.
            mask: Bool, broadcastable to [B, H, T, T]; true = may attend.
            memory: Columns for each memory layer from the bottom; empty reads none.
            reads: Bool, broadcastable to [B, H, T, M]: which token may read which memory column.
                None lets every token read all.

        Returns:
            Hidden states [B, T, E] before the final norm; give them to `logits`.
        """
        x_BTE: Tensor = self.embedding(tokens_BT)
        table = self.rope(positions)
        bias = _four_dimensional_bias(mask, x_BTE.dtype)
        for index, block in enumerate(self.layers):
            own = memory[index] if index < len(memory) else None
            if self.checkpoint_activations and torch.is_grad_enabled():
                x_BTE = checkpoint(
                    self._layer, block, x_BTE, table, bias, own, reads, use_reentrant=False
                )
            else:
                x_BTE = self._layer(block, x_BTE, table, bias, own, reads)
        return x_BTE

    def _layer(
        self,
        block: Block,
        x_BTE: Tensor,
        table: tuple[Tensor, Tensor],
        bias: Tensor,
        memory: LayerMemory | None,
        reads: Tensor | None,
    ) -> Tensor:
        heads = block.attention.project(block.attention_norm(x_BTE), table)
        keys, values = heads.keys, heads.values
        if memory is not None:
            keys = torch.cat((memory.keys.to(keys.dtype), keys), dim=2)
            values = torch.cat((memory.values.to(values.dtype), values), dim=2)
            context = bias.expand(len(x_BTE), self.config.num_heads, -1, -1)
            bias = torch.cat((self._reading_bias(memory, bias, reads), context), dim=-1)
        return block.finish(x_BTE, block.attention.attend(heads.queries, keys, values, bias))

    def _reading_bias(self, memory: LayerMemory, bias: Tensor, reads: Tensor | None) -> Tensor:
        groups = self.config.num_heads // self.config.num_kv_heads
        read = memory.bias.to(bias.dtype).repeat_interleave(groups, dim=1)[:, :, None, :]
        read = read.expand(-1, -1, bias.shape[-2], -1)
        return read if reads is None else read.masked_fill(~reads, float("-inf"))

    def write_states(
        self, tokens_BT: Tensor, positions: Tensor, mask: Tensor
    ) -> Iterator[HeadStates]:
        """Heads of every memory layer, bottom up; the rest never runs (paper §3.4)."""
        x_BTE = self.embedding(tokens_BT)
        table = self.rope(positions)
        last = self.config.memory.num_memory_layers - 1
        for index, block in enumerate(self.layers[: last + 1]):
            heads = block.attention.project(block.attention_norm(x_BTE), table)
            yield heads
            if index < last:
                attended = block.attention.attend(heads.queries, heads.keys, heads.values, mask)
                x_BTE = block.finish(x_BTE, attended)

    def prefill(
        self,
        cache: SlotCache,
        slot: int,
        tokens: Tensor,
        chunk_memories: Sequence[Sequence[MemoryTensors]] | None = None,
        *,
        resume: bool = False,
        all_logits: bool = False,
        report: bool = False,
    ) -> StepOutput:
        """Read a prompt, or a piece of it, in one pass, every chunk with its own memories
        (paper §4).

        The separator is put before the first token of the prompt. Afterwards the slot holds the
        memories of the last chunk, which the first generated chunk inherits.

        Args:
            cache: Slots to fill.
            slot: A released slot, or one with the pieces before this one.
            tokens: Token ids [T], without prefix and separator; T >= 0, T >= 1 to resume.
            chunk_memories: For chunk c = tokens[c*64:(c+1)*64], what it reads. None reads nothing.
            resume: Go on after what the slot holds, which must be whole chunks of a prompt.
            all_logits: Give logits after every token, not only after the last.
            report: Give the attention mass of every memory.

        Raises:
            InvalidArgumentError: The prompt does not fit, the chunks do not match the tokens, or
                there is nothing that could be resumed.
        """
        from memory3.model.prefill import prefill

        return prefill(
            self,
            cache,
            slot,
            tokens,
            chunk_memories or (),
            resume=resume,
            all_logits=all_logits,
            report=report,
        )

    def decode(
        self, cache: SlotCache, slots: Tensor, tokens: Tensor, *, report: bool = False
    ) -> StepOutput:
        """One token for each of B slots.

        Args:
            cache: Slots that hold the contexts.
            slots: Slot numbers [B], each once.
            tokens: The newest token of each [B]; its keys and values enter the cache.
            report: Give the attention mass of every memory.

        Raises:
            InvalidArgumentError: A slot is full; none has changed.
        """
        x_BTE = self.embedding(tokens[:, None])
        positions = self.layout.separator + cache.grow(slots)
        table = self.rope(positions[:, None, None])
        plain, reading = cache.masks(slots)
        masses = []
        for index, block in enumerate(self.layers):
            heads = block.attention.project(block.attention_norm(x_BTE), table)
            keys, values = cache.append(index, slots, heads.keys[:, :, 0], heads.values[:, :, 0])
            mask = reading if index < cache.num_memory_layers else plain
            attended = block.attention.attend(heads.queries, keys, values, mask)
            if report and index < cache.num_memory_layers:
                weights = block.attention.weights(heads.queries, keys, mask)
                masses.append(weights[..., cache.memory_columns].mean(dim=(1, 2)))
            x_BTE = block.finish(x_BTE, attended)
        mass = cache.mass_per_reference(torch.stack(masses).mean(0)) if masses else None
        return StepOutput(self.logits(x_BTE)[:, 0], mass)


def _four_dimensional_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A bool mask as additive bias [.., T, T] with four dimensions."""
    bias = as_bias(mask, dtype)
    return bias.view((1,) * (4 - bias.dim()) + tuple(bias.shape))
