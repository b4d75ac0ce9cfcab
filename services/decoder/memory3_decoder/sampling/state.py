"""What the sampler remembers of one sequence: its random numbers and the tokens it has seen.

Random numbers come from a counter-based generator keyed by (seed, choice), so that the i-th token
of a sequence meets the same number however the sequence is batched. A state lives beside the model,
with the slot of its sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from memory3_decoder.parameters import SamplingParameters

_UNIT = 2.0**-53


@dataclass(frozen=True, kw_only=True)
class SamplingStart:
    """What the choosing of one sequence's tokens begins with.

    Attributes:
        parameters: How its tokens are chosen.
        seed: The seed to use, 0 to 2**64 - 1.
        choice: Number of the choice, so that choices of one request differ.
        prompt_tokens: Tokens of the prompt.
        end_ids: Tokens that end the text.
    """

    parameters: SamplingParameters
    seed: int
    choice: int
    prompt_tokens: Sequence[int]
    end_ids: Sequence[int]


class SamplingState:
    """One sequence's side of the sampler.

    Attributes:
        parameters: How its tokens are chosen.
        end_ids: Tokens that end it, masked before ``min_tokens``.
        num_generated: Tokens chosen so far.
        seen: Bool [V], tokens of prompt and output; None where no penalty needs them.
        counts: float32 [V], occurrences in the output; None where no penalty needs them.

    Args:
        start: What it begins with.
    """

    def __init__(self, start: SamplingStart) -> None:
        self.parameters = start.parameters
        self.end_ids = tuple(start.end_ids)
        self.num_generated = 0
        self.seen: Tensor | None = None
        self.counts: Tensor | None = None
        self._prompt_tokens = tuple(start.prompt_tokens)
        key = np.array([start.seed, start.choice], dtype=np.uint64)
        self._bits = np.random.Philox(key=key)

    def prepare(self, vocab_size: int, device: torch.device) -> None:
        """Set up the record of tokens seen; the first sampling of the sequence calls it."""
        if self.seen is not None or not self.parameters.has_penalties:
            return
        self.seen = torch.zeros(vocab_size, dtype=torch.bool, device=device)
        self.counts = torch.zeros(vocab_size, dtype=torch.float32, device=device)
        within = [token for token in self._prompt_tokens if token < vocab_size]
        self.seen[torch.tensor(within, dtype=torch.int64, device=device)] = True

    def uniform(self) -> float:
        """The next random number, in [0, 1)."""
        # Raw bits are stable over numpy versions, which its derived draws are not promised to be.
        return (int(self._bits.random_raw()) >> 11) * _UNIT

    def record(self, token: int) -> None:
        """Note that a token was chosen."""
        self.num_generated += 1
        if self.seen is not None and self.counts is not None:
            self.seen[token] = True
            self.counts[token] += 1.0
