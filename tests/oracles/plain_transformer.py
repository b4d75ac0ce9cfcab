"""The transformer once more, in float64 numpy and with loops: what the fast paths must equal.

Written from the paper (§2 to §4) alone: it shares no code with ``memory3.model``, has no cache, no
masks and no padding. Every token is handled by itself and sees an explicit list of columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from memory3.memory.tensors import MemoryTensors
from memory3.model.config import ModelConfig

Array = np.ndarray


@dataclass
class Columns:
    """Keys and values [layers, KV heads, columns, head dim] of one memory, without padding."""

    keys: Array
    values: Array

    @classmethod
    def of(cls, memory: MemoryTensors) -> Columns:
        """The valid columns of a memory."""
        kept = slice(0, memory.num_kept)
        keys, values = (part[:, :, kept].double().numpy() for part in (memory.keys, memory.values))
        return cls(keys, values)


@dataclass
class Heads:
    """What one layer made of a sequence, each [heads, tokens, head dim]."""

    queries: Array
    keys: Array
    values: Array
    queries_unrotated: Array
    keys_unrotated: Array


@dataclass
class Reading:
    """Logits [tokens, vocabulary], heads of every layer, and attention on memories.

    ``mass[layer][token]`` is [query heads, memories of that token].
    """

    logits: Array
    heads: list[Heads]
    mass: list[list[Array]]


class PlainTransformer:
    """The weights of a ``Transformer``, read by loops."""

    def __init__(self, model: nn.Module, config: ModelConfig) -> None:
        self.config = config
        self.weights = {k: v.double().numpy() for k, v in model.state_dict().items()}

    def run(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        memories: Callable[[int], Sequence[Columns]] = lambda token: (),
    ) -> Reading:
        """A causal pass.

        Args:
            tokens: The sequence, prefix included.
            positions: Of each token.
            memories: From the place of a token in the sequence to what it reads.
        """
        config, groups = self.config, self.config.num_heads // self.config.num_kv_heads
        x = self.weights["embedding.weight"][list(tokens)]
        all_heads, mass = [], []
        for layer in range(config.num_layers):
            heads = self._heads(layer, x, positions)
            reads = memories if layer < config.memory.num_memory_layers else lambda token: ()
            attended, layer_mass = [], []
            for token in range(len(tokens)):
                own = reads(token)
                outs, shares = [], []
                for head in range(config.num_heads):
                    kv = head // groups
                    keys = [m.keys[layer, kv] for m in own] + [heads.keys[kv, : token + 1]]
                    values = [m.values[layer, kv] for m in own] + [heads.values[kv, : token + 1]]
                    logits = np.concatenate(keys) @ heads.queries[head, token]
                    weights = _softmax(logits / np.sqrt(config.head_dim))
                    outs.append(weights @ np.concatenate(values))
                    borders = np.cumsum([len(part) for part in keys])[:-1]
                    shares.append([part.sum() for part in np.split(weights, borders)][:-1])
                attended.append(np.concatenate(outs))
                layer_mass.append(np.array(shares))
            x = self._finish(layer, x, np.array(attended))
            all_heads.append(heads)
            mass.append(layer_mass)
        output = self.weights.get("head.weight", self.weights["embedding.weight"])
        return Reading(self._norm("norm", x) @ output.T, all_heads, mass)

    def context(
        self, tokens: Sequence[int], chunk_memories: Sequence[Sequence[MemoryTensors]] = ()
    ) -> Reading:
        """Prefix, separator and a context whose chunk c reads ``chunk_memories[c]``.

        Logits and mass begin with the separator; it belongs to the first chunk.
        """
        config = self.config
        num_prefix, interval = len(config.prefix_ids), config.memory.reference_length
        sequence = [*config.prefix_ids, config.separator_id, *tokens]
        positions = [*range(num_prefix), *range(num_prefix + interval, len(sequence) + interval)]
        columns = [[Columns.of(memory) for memory in chunk] for chunk in chunk_memories]

        def memories(token: int) -> Sequence[Columns]:
            if token < num_prefix or not columns:
                return ()
            return columns[max(0, token - num_prefix - 1) // config.memory.chunk_length]

        whole = self.run(sequence, positions, memories)
        mass = [layer[num_prefix:] for layer in whole.mass[: config.memory.num_memory_layers]]
        return Reading(whole.logits[num_prefix:], whole.heads, mass)

    def _heads(self, layer: int, x: Array, positions: Sequence[int]) -> Heads:
        config, name = self.config, f"blocks.{layer}.attention"
        normed = self._norm(f"blocks.{layer}.attention_norm", x)

        def split(part: str, number: int) -> Array:
            flat = normed @ self.weights[f"{name}.{part}.weight"].T
            return flat.reshape(len(x), number, config.head_dim).transpose(1, 0, 2)

        q, k = split("wq", config.num_heads), split("wk", config.num_kv_heads)
        v = split("wv", config.num_kv_heads)
        return Heads(self._rotate(q, positions), self._rotate(k, positions), v, q, k)

    def _rotate(self, heads: Array, positions: Sequence[int]) -> Array:
        """Pair dimension i with i + D/2 and turn the pair, as a complex number."""
        half = self.config.head_dim // 2
        rates = self.config.rope_base ** (-np.arange(half) / half)
        turned = (heads[..., :half] + 1j * heads[..., half:]) * np.exp(
            1j * np.outer(np.array(positions), rates)
        )
        return np.concatenate((turned.real, turned.imag), axis=-1)

    def _finish(self, layer: int, x: Array, attended: Array) -> Array:
        name = f"blocks.{layer}"
        x = x + attended @ self.weights[f"{name}.attention.wo.weight"].T
        normed = self._norm(f"{name}.mlp_norm", x)
        gate = normed @ self.weights[f"{name}.mlp.w1.weight"].T
        up = normed @ self.weights[f"{name}.mlp.w3.weight"].T
        return x + (gate / (1 + np.exp(-gate)) * up) @ self.weights[f"{name}.mlp.w2.weight"].T

    def _norm(self, name: str, x: Array) -> Array:
        scale = np.sqrt((x**2).mean(-1, keepdims=True) + self.config.norm_eps)
        return x / scale * self.weights[f"{name}.weight"]


def _softmax(logits: Array) -> Array:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()
