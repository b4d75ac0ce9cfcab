"""How much is measured: the paper's protocol, or so little that a test can run it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Sizes:
    """Numbers of everything.

    Attributes:
        rounds: Timed rounds of each row.
        num_in: Tokens of a prompt.
        num_out: Tokens of an answer through the services.
        num_steps: Steps of plain decoding in a round.
        batches: Sequences at once, with memories against without.
        num_references: References of the bank.
        num_bulk: References of a round of `memory3 add`.
        growth_batches: Sequences at once, for growth.
        growth_context: Shares of the window that the prompt fills.
        growth_references: References for each chunk.
        growth_out: Tokens of an answer there.
    """

    rounds: int = 3
    num_in: int = 128
    num_out: int = 128
    num_steps: int = 32
    batches: tuple[int, ...] = (1, 8, 32)
    num_references: int = 500
    num_bulk: int = 256
    growth_batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    growth_context: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 1.0)
    growth_references: tuple[int, ...] = (0, 1, 5, 10, 20)
    growth_out: int = 32

    def of_large(self) -> Sizes:
        """For a shape that takes several times as long: fewer steps, whose times vary less."""
        return replace(self, rounds=min(self.rounds, 2), num_steps=max(2, self.num_steps // 4))


FULL = Sizes()
# Every path once. What it measures means nothing.
QUICK = Sizes(
    rounds=1,
    num_in=16,
    num_out=4,
    num_steps=2,
    batches=(1, 2),
    num_references=8,
    num_bulk=8,
    growth_batches=(1, 2),
    growth_context=(0.1, 0.3),
    growth_references=(0, 5),
    growth_out=4,
)
