"""Writing memories: encode references alone, keep the tokens that matter, drop the rest.

Source: paper §3. A reference is encoded behind the prefix in an ordinary causal pass through the
memory layers only; keys are rotated first and selected after, so kept tokens keep their places.
Shapes: B references, P prefix tokens, N reference tokens (padded), K KV heads, D head dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from memory3 import plugins
from memory3.errors import InvalidArgumentError, ReferenceBlankError, ReferenceTooLongError
from memory3.memory.envelope import Envelope, pack
from memory3.memory.selectors.base import ReferenceStates, Selector, select
from memory3.memory.tensors import MemoryTensors

if TYPE_CHECKING:
    from memory3.codecs.base import Codec
    from memory3.model.config import ModelConfig
    from memory3.model.transformer import Transformer


@dataclass(frozen=True)
class WrittenLayer:
    """All tokens of B references in one memory layer, before selection.

    Attributes:
        keys: Rotated keys [B, K, N, D].
        values: Values [B, K, N, D].
        scores: Of the selector, float32 [B, K, N].
    """

    keys: Tensor
    values: Tensor
    scores: Tensor


OnStates = Callable[[Tensor, Tensor], None]
"""Told what the last memory layer reads of references, [B, N, E], and their lengths [B]."""


def encode_references(
    model: Transformer,
    tokens_BN: Tensor,
    lengths_B: Tensor,
    selector: Selector,
    on_states: OnStates | None = None,
) -> Iterator[WrittenLayer]:
    """Run the writing half over padded references; differentiable, so training uses it too.

    Args:
        model: The model.
        tokens_BN: Token ids without prefix, padded on the right.
        lengths_B: Tokens of each reference.
        selector: Scores the tokens.
        on_states: Told of the last memory layer, which embeds the references in the same pass.
    """
    layout = model.layout
    B, N = tokens_BN.shape
    prefix = tokens_BN.new_tensor(model.config.prefix_ids).expand(B, -1)
    steps = torch.arange(layout.num_prefix + N, device=tokens_BN.device)
    causal = steps[None, :] <= steps[:, None]
    valid = torch.arange(N, device=tokens_BN.device) < lengths_B[:, None]
    own = slice(layout.num_prefix, None)
    # Padding stands on the right, so the causal mask already hides it from every real token.
    written = model.write_states(torch.cat((prefix, tokens_BN), dim=1), steps, causal)
    for number, heads in enumerate(written, start=1):
        states = ReferenceStates(
            heads.queries_unrotated[:, :, own],
            heads.keys_unrotated[:, :, own],
            heads.values[:, :, own],
            valid,
        )
        yield WrittenLayer(heads.keys[:, :, own], heads.values[:, :, own], selector.scores(states))
        if on_states is not None and number == model.config.memory.num_memory_layers:
            on_states(heads.inputs[:, own], lengths_B)


class MemoryWriter:
    """Turns references into memories with a model, a selector and a number of tokens to keep."""

    def __init__(
        self,
        model: Transformer,
        config: ModelConfig,
        *,
        selector: Selector | None = None,
        tokens_kept: int | None = None,
    ) -> None:
        self._model = model
        self._config = config
        name = config.memory.selector
        self._selector: Selector = selector or plugins.load("selectors", name)()
        self._tokens_kept = config.memory.tokens_kept if tokens_kept is None else tokens_kept
        if not 0 < self._tokens_kept <= config.memory.reference_length:
            raise InvalidArgumentError(
                f"tokens_kept is {self._tokens_kept}",
                field="tokens_kept",
                remedy=f"keep 1 to {config.memory.reference_length} tokens",
            )

    @torch.inference_mode()
    def write(
        self, references: Sequence[Sequence[int]], on_states: OnStates | None = None
    ) -> list[MemoryTensors]:
        """Encode a batch of references.

        Args:
            references: Token ids of each, without prefix; 1 to `reference_length` tokens.
            on_states: Told what the last memory layer reads of them, from which the checkpoint's
                own embedder makes their vectors.

        Returns:
            One memory for each, in order.

        Raises:
            ReferenceBlankError: A reference has no tokens.
            ReferenceTooLongError: One has too many.
            InvalidArgumentError: One has an id that is no token of the vocabulary.
        """
        if not references:
            return []
        for row, reference in enumerate(references):
            self._check(reference, f"references[{row}]")
        lengths = [len(reference) for reference in references]
        device = self._model.device
        longest = max(*lengths, self._tokens_kept)
        tokens = torch.full((len(references), longest), self._config.pad_id, device=device)
        for row, reference in enumerate(references):
            tokens[row, : len(reference)] = torch.tensor(reference, device=device)
        lengths_B = torch.tensor(lengths, device=device)
        layers = encode_references(self._model, tokens, lengths_B, self._selector, on_states)
        chosen = [keep_tokens(layer, lengths_B, self._tokens_kept) for layer in layers]
        keys, values, positions = (torch.stack(part, dim=1) for part in zip(*chosen, strict=True))
        return [
            MemoryTensors(keys[row], values[row], positions[row], min(length, self._tokens_kept))
            for row, length in enumerate(lengths)
        ]

    def _check(self, reference: Sequence[int], field: str) -> None:
        limit, vocabulary = self._config.memory.reference_length, self._config.vocab_size
        if len(reference) == 0:
            raise ReferenceBlankError(
                "a reference has no tokens", field=field, remedy="give text, or leave it out"
            )
        if len(reference) > limit:
            raise ReferenceTooLongError(
                f"a reference has {len(reference)} tokens, at most {limit} are allowed",
                field=field,
                remedy="split the text, or add it as a document, which is split for you",
            )
        if not 0 <= min(reference) <= max(reference) < vocabulary:
            raise InvalidArgumentError(
                f"ids from {min(reference)} to {max(reference)} leave the vocabulary of"
                f" {vocabulary}",
                field=field,
                remedy="tokenize with the checkpoint's own tokenizer",
            )


def keep_tokens(
    layer: WrittenLayer, lengths_B: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Keep the tokens with the highest scores; the rest of a short reference is zero.

    Args:
        layer: All tokens of B references, padded to at least `count`.
        lengths_B: Tokens of each.
        count: Tokens to keep per KV head.

    Returns:
        Keys and values [B, K, count, D], and positions int16 [B, K, count].
    """
    B, K, N, D = layer.keys.shape
    valid = torch.arange(N, device=lengths_B.device) < lengths_B[:, None]
    index = select(layer.scores, valid, count)
    real = valid[:, None, :].expand(B, K, N).gather(-1, index)
    wide = index[..., None].expand(-1, -1, -1, D)
    blank = ~real[..., None]
    return (
        layer.keys.gather(2, wide).masked_fill(blank, 0),
        layer.values.gather(2, wide).masked_fill(blank, 0),
        index.masked_fill(~real, 0).to(torch.int16),
    )


def to_envelope(memory: MemoryTensors, codec: Codec, checkpoint_digest: str) -> bytes:
    """The binary form of a memory, bound to its checkpoint."""
    stacked = torch.stack((memory.keys, memory.values), dim=1)  # [L, 2, K, N, D]
    layers, pair, heads, tokens, width = stacked.shape
    return pack(
        Envelope(
            checkpoint_digest=checkpoint_digest,
            codec=codec.name,
            dtype=codec.dtype_name,
            shape=(layers, pair, heads, tokens, width),
            num_kept=memory.num_kept,
            positions=memory.positions.to(torch.uint8).cpu().numpy().astype(np.uint8),
            payload=codec.encode(stacked),
        )
    )
