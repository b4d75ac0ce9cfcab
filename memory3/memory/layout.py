"""Where everything stands: the positions of prefix, memories, separator and context.

Source: paper §4. All memories share one parallel interval of positions between the prefix and the
separator, and the context starts after it whether or not memories are attached, so attaching,
replacing or dropping them moves nothing.

    position   0 … P-1        P … P+127          P+128        P+129 …
               <s>Reference:  memories, stacked  <s>          context
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memory3.model.config import ModelConfig


@dataclass(frozen=True)
class Layout:
    """Positions and chunks of a model.

    Attributes:
        num_prefix: Tokens of `<s>Reference:`.
        reference_length: Width of the memory interval in positions.
        chunk_length: Context tokens that share one retrieval.
    """

    num_prefix: int
    reference_length: int
    chunk_length: int

    @classmethod
    def of(cls, config: ModelConfig) -> Layout:
        """The layout of a model's configuration."""
        memory = config.memory
        return cls(len(config.prefix_ids), memory.reference_length, memory.chunk_length)

    @property
    def memory_start(self) -> int:
        """Position of the first token of every reference."""
        return self.num_prefix

    @property
    def separator(self) -> int:
        """Position of the separator."""
        return self.num_prefix + self.reference_length

    @property
    def context_start(self) -> int:
        """Position of the first token of the context."""
        return self.separator + 1

    def num_chunks(self, num_tokens: int) -> int:
        """Chunks of a prompt; an empty prompt still has one, the separator's."""
        return max(1, -(-num_tokens // self.chunk_length))
