"""How a model's rotary frequencies were stretched to reach further. Knows no torch.

Not of the paper, whose models rotate plainly (§2): checkpoints of other families bring it along.
`linear` slows every frequency; `llama3` slows those whose wave is longer than the text the model
was first trained on; `yarn` (arXiv 2309.00071) slows those that turn seldom within that text, and
sharpens attention. `memory3.model.rope` applies it.
"""

from __future__ import annotations

from dataclasses import dataclass

from memory3.model.checks import check_count, check_kinds, require

KINDS_OF_SCALING = ("linear", "llama3", "yarn")
_MAX_LENGTH = (1 << 31) - 1


@dataclass(frozen=True)
class RopeScaling:
    """The stretching of rotary frequencies.

    Attributes:
        kind: `linear`, `llama3` or `yarn`.
        factor: How many times as far the slowed frequencies reach.
        original_length: Positions the model was trained on before (`llama3` and `yarn`).
        low_freq_factor: Waves longer than `original_length` by this are slowed whole (`llama3`).
        high_freq_factor: Waves shorter than `original_length` by this are left alone (`llama3`).
        beta_fast: Frequencies with more turns in `original_length` are left alone (`yarn`).
        beta_slow: Frequencies with fewer turns in it are slowed whole (`yarn`).
        attention_factor: Multiplies rotated queries and keys (`yarn`).
        truncate: Round the range between the two to whole dimensions (`yarn`).
    """

    kind: str
    factor: float
    original_length: int
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0
    truncate: bool = True

    def __post_init__(self) -> None:
        check_kinds(self, "rope_scaling.")
        require(
            self.kind in KINDS_OF_SCALING,
            "rope_scaling.kind",
            f"rope scaling {self.kind!r} is not known",
            f"use one of {', '.join(KINDS_OF_SCALING)}",
        )
        require(
            self.factor >= 1,
            "rope_scaling.factor",
            f"rope_scaling.factor is {self.factor}",
            "give a number from 1",
        )
        check_count(self, "original_length", "rope_scaling.", _MAX_LENGTH)
        for low, high in (("low_freq_factor", "high_freq_factor"), ("beta_slow", "beta_fast")):
            require(
                getattr(self, low) < getattr(self, high),
                f"rope_scaling.{low}",
                f"{low} {getattr(self, low)} is not below {high} {getattr(self, high)}",
                f"raise {high} or lower {low}",
            )
