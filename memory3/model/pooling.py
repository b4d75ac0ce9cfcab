"""A vector of a whole text: hidden states of the writing half, pooled and projected.

The hidden state is the one that the last memory layer reads. Writing a memory computes it anyway
(paper §3.4), so a text can be embedded in the pass that writes it: give `Pooling` the `inputs` of
the last `HeadStates`. It must not know tokenizers, files or how the weights are learnt.
Shapes: B texts, N tokens (padded on the right), P prefix tokens, E width, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memory3.model.transformer import Transformer

# exp of more would let one token of a text decide alone, and overflow in the end.
_MAX_GATE = 10.0


def reading_states(model: Transformer, tokens_BN: Tensor) -> Tensor:
    """What the last memory layer reads of texts, each behind the prefix as a reference is.

    Args:
        model: The model; its writing half is enough.
        tokens_BN: Token ids without prefix, padded on the right.

    Returns:
        Normed hidden states [B, N, E], without the prefix.
    """
    num_prefix = model.layout.num_prefix
    prefix = tokens_BN.new_tensor(model.config.prefix_ids).expand(len(tokens_BN), -1)
    steps = torch.arange(num_prefix + tokens_BN.shape[1], device=tokens_BN.device)
    # Padding stands on the right, so the causal mask already hides it from every real token.
    causal = steps[None, :] <= steps[:, None]
    *_, last = model.write_states(torch.cat((prefix, tokens_BN), dim=1), steps, causal)
    return last.inputs[:, num_prefix:]


def states_by_length(
    model: Transformer, texts: Sequence[Sequence[int]], *, batch_tokens: int
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Hidden states of many texts, those of about one length together.

    Args:
        model: The model; its writing half is enough.
        texts: Token ids of each; a text without any is left out.
        batch_tokens: The most tokens of a batch, padding included; a longer text comes alone.

    Yields:
        Numbers of the texts of a batch [B], their states [B, N, E] and lengths [B].
    """
    order = sorted((n for n, ids in enumerate(texts) if ids), key=lambda n: len(texts[n]))
    while order:
        longest = len(texts[order[-1]])
        rows = order[-max(1, batch_tokens // longest) :]
        del order[-len(rows) :]
        tokens = torch.full((len(rows), longest), model.config.pad_id)
        for place, row in enumerate(rows):
            tokens[place, : len(texts[row])] = torch.tensor(texts[row])
        lengths = torch.tensor([len(texts[row]) for row in rows], device=model.device)
        yield rows, reading_states(model, tokens.to(model.device)), lengths


class Pooling(nn.Module):
    """Weighs the tokens of a text, takes their mean and projects it to unit length.

    Args:
        width: Width of the hidden states.
        dimensions: Length of a vector.

    Attributes:
        gate: [E]; the logarithm of a token's weight is its inner product with the hidden state.
            Zeros weigh all alike.
        projection: [D, E].
    """

    def __init__(self, width: int, dimensions: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(width))
        self.projection = nn.Parameter(torch.empty(dimensions, width))

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw a projection that keeps distances on average; weigh all tokens alike."""
        nn.init.zeros_(self.gate)
        nn.init.normal_(self.projection, std=len(self.projection) ** -0.5, generator=generator)

    def forward(self, hidden_BNE: Tensor, lengths_B: Tensor) -> Tensor:
        """Unit vectors [B, D]; a text's own tokens alone decide, whatever stands in the padding.

        Args:
            hidden_BNE: As `reading_states` gives them.
            lengths_B: Tokens of each text, at least one.
        """
        hidden_BNE = hidden_BNE.to(self.gate.dtype)
        places = torch.arange(hidden_BNE.shape[1], device=hidden_BNE.device)
        logits = (hidden_BNE @ self.gate).clamp(-_MAX_GATE, _MAX_GATE)
        logits = logits.masked_fill(places >= lengths_B[:, None], float("-inf"))
        pooled = logits.softmax(dim=-1)[:, None] @ hidden_BNE
        return F.normalize(F.linear(pooled[:, 0], self.projection), dim=-1)
