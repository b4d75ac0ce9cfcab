"""Which heads look far back: what is lost if one sees no more than a recent window.

A memory is read as what stood long before (paper §4), so a head that uses nothing distant has no
use for it, and a head whose loss rises when the distance is hidden would carry it. Every KV head is
restricted alone, with the query heads that share it; prefix and separator stay visible, because
attention rests there when there is nothing to read, and losing that rest is another loss.
It must not know files or texts.
Shapes: T prefix, separator and tokens, H query heads, K KV heads, D head dim, E width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memory3.errors import InvalidArgumentError
from memory3.model.transformer import Transformer


@dataclass(frozen=True)
class HeadReach:
    """What one KV head's distance is worth.

    Attributes:
        layer: Its layer, from 0 at the bottom.
        head: Its number in the layer, from 0.
        rise: How much the mean loss rises without it, nats a token.
        reads_memory: Whether the layer is a memory layer.
    """

    layer: int
    head: int
    rise: float
    reads_memory: bool


@dataclass(frozen=True)
class ReachReport:
    """All heads, the one with the highest rise first.

    Attributes:
        window: Tokens that a restricted head sees, its own included.
        loss: Mean loss with all heads whole, nats a token.
        num_tokens: Tokens whose loss is counted: those with a token behind the window.
        heads: Every KV head.
    """

    window: int
    loss: float
    num_tokens: int
    heads: tuple[HeadReach, ...]


@torch.inference_mode()
def measure_reach(
    model: Transformer,
    texts: Sequence[Sequence[int]],
    window: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> ReachReport:
    """Restrict every KV head in turn and measure the loss.

    Layers below a restricted head compute what they did, so a pass begins at its layer: all heads
    cost about (layers + 1) / 2 passes for each KV head of a layer.

    Args:
        model: In evaluation mode.
        texts: Token ids of each text. One that does not reach behind the window counts nothing.
        window: Tokens that a restricted head sees, its own included.
        on_progress: Told how many texts are done, and of how many.

    Raises:
        InvalidArgumentError: The window is not positive, or no text reaches behind it.
    """
    if window < 1:
        raise InvalidArgumentError(
            f"window is {window}", field="window", remedy="give a whole number from 1"
        )
    long = [text for text in texts if len(text) > window + 1]
    if not long:
        raise InvalidArgumentError(
            f"no text has more than {window + 1} tokens",
            field="texts",
            remedy="give longer texts, or a smaller window",
        )
    config = model.config
    rises = torch.zeros(config.num_layers, config.num_kv_heads, dtype=torch.float64)
    loss, num_tokens = 0.0, 0
    for done, text in enumerate(long):
        on_progress(done, len(long))
        one = _Text(model, text, window)
        loss += one.loss
        num_tokens += one.num_counted
        rises += one.rises()
    on_progress(len(long), len(long))
    rises /= num_tokens
    heads = [
        HeadReach(layer, head, float(rises[layer, head]), layer < config.memory.num_memory_layers)
        for layer in range(config.num_layers)
        for head in range(config.num_kv_heads)
    ]
    heads.sort(key=lambda one: -one.rise)
    return ReachReport(window, loss / num_tokens, num_tokens, tuple(heads))


class _Text:
    """One text, what every layer was given of it, and its loss with all heads whole."""

    def __init__(self, model: Transformer, text: Sequence[int], window: int) -> None:
        config, layout = model.config, model.layout
        self.model = model
        sequence = [*config.prefix_ids, config.separator_id, *text]
        self.tokens = torch.tensor(sequence, device=model.device)
        steps = torch.arange(len(sequence), device=model.device)
        # Where the context stands in the decoder: behind the interval of the memories.
        positions = steps + (steps >= layout.num_prefix) * layout.reference_length
        self.table = model.rope(positions)
        self.causal = steps[None, :] <= steps[:, None]
        resting = layout.num_prefix + 1
        near = (steps[:, None] - steps[None, :] < window) | (steps < resting)
        self.recent = self.causal & near
        # The first token with another, beside those at rest, behind its window.
        self.first = resting + window
        self.num_counted = len(sequence) - 1 - self.first
        self.inputs: list[Tensor] = []
        x_BTE: Tensor = model.embedding(self.tokens[None])
        for layer in range(config.num_layers):
            self.inputs.append(x_BTE)
            x_BTE = self._layer(layer, x_BTE, self.causal)
        self.loss = self._loss(x_BTE)

    def rises(self) -> Tensor:
        """What the summed loss rises by without the distance of each KV head, [layers, K]."""
        config = self.model.config
        rises = torch.zeros(config.num_layers, config.num_kv_heads, dtype=torch.float64)
        group = config.num_heads // config.num_kv_heads
        for layer, given in enumerate(self.inputs):
            for head in range(config.num_kv_heads):
                mask = self.causal.repeat(config.num_heads, 1, 1)
                mask[head * group : (head + 1) * group] = self.recent
                x_BTE = self._layer(layer, given, mask)
                for above in range(layer + 1, config.num_layers):
                    x_BTE = self._layer(above, x_BTE, self.causal)
                rises[layer, head] = self._loss(x_BTE) - self.loss
        return rises

    def _layer(self, layer: int, x_BTE: Tensor, mask: Tensor) -> Tensor:
        block = self.model.layers[layer]
        heads = block.attention.project(block.attention_norm(x_BTE), self.table)
        attended = block.attention.attend(heads.queries, heads.keys, heads.values, mask)
        return block.finish(x_BTE, attended)

    def _loss(self, x_BTE: Tensor) -> float:
        logits = self.model.logits(x_BTE[:, self.first : -1])[0]
        targets = self.tokens[self.first + 1 :]
        total = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        loss = float(total)
        if not math.isfinite(loss):
            raise InvalidArgumentError(
                "the loss of a text is not finite", field="texts", remedy="check the checkpoint"
            )
        return loss
