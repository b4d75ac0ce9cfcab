"""The model as the engine sees it: every piece of its work awaited, off the event loop.

The event loop stays free for health checks and streams while the model works, and, with the model
in a process of its own, the model for its steps while the event loop is busy with callers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import cast

from memory3.memory.tensors import MemoryTensors
from memory3_decoder.model.jobs import (
    ModelPlan,
    Piece,
    PrefillJob,
    PrefillResult,
    ResumeJob,
    StepResult,
    StepRow,
    Suspended,
)
from memory3_decoder.model.lane import Lane
from memory3_decoder.model.prefixes import PromptChain


class ModelRunner:
    """Has the worker do one thing after the other; see ``ModelWorker`` for what each is.

    Attributes:
        column_bytes: Bytes of keys and values of one token in all layers.
        prefix_bytes: Bytes of read chunks of prompts that are kept.

    Args:
        lane: The way to the worker.
    """

    def __init__(self, lane: Lane) -> None:
        self.column_bytes = self.prefix_bytes = 0
        self._lane = lane
        self._numbers = itertools.count()

    async def load(self, plan: ModelPlan) -> None:
        """Load the model and run it once.

        Raises:
            SettingsError: The step does not fit the device.
            CheckpointError: The weights cannot be used.
        """
        self.column_bytes = await self._lane.call("load", plan)

    async def close(self) -> None:
        """End the worker."""
        await self._lane.close()

    def when_lost(self, call: Callable[[], None]) -> None:
        """Have something called if the worker is lost."""
        self._lane.on_lost = call

    def check(self) -> None:
        """Do nothing while the worker is there.

        Raises:
            InternalError: It is lost, and nothing can be asked any more.
        """
        if self._lane.lost is not None:
            raise self._lane.lost

    async def prefill(self, job: PrefillJob) -> PrefillResult:
        """Read a piece of a prompt into a slot and choose the first token after the last."""
        result = cast(PrefillResult, await self._lane.call("prefill", job))
        self.prefix_bytes = result.prefix_bytes
        return result

    async def copy_prefix(self, slot: int, chain: PromptChain, start: int) -> int:
        """Put what is kept of a prompt into its slot; how many tokens need not be read."""
        if not self.prefix_bytes:
            return 0  # no way to the worker and back for nothing
        return cast(int, await self._lane.call("copy_prefix", slot, chain, start))

    async def suspend(self, slot: int) -> Suspended:
        """Empty a slot; what it held must be resumed or forgotten."""
        number = next(self._numbers)
        return Suspended(number, await self._lane.call("suspend", slot, number))

    async def resume(self, job: ResumeJob) -> None:
        """Put a suspended sequence into a slot; the next step goes on with it."""
        await self._lane.call("resume", job)

    def forget(self, suspended: Suspended) -> None:
        """Drop a suspended sequence that will not be resumed."""
        self._lane.post("forget", suspended.number)

    async def step(self, rows: Sequence[StepRow]) -> list[StepResult]:
        """Read one token of each sequence and choose its next; rows are in the order of slots."""
        return cast(list[StepResult], await self._lane.call("step", rows))

    async def score(self, piece: Piece, targets: Sequence[int]) -> tuple[list[float], bool]:
        """Log-probabilities of tokens that a piece predicts, and whether all were the likeliest."""
        return cast(tuple[list[float], bool], await self._lane.call("score", piece, targets))

    async def write(self, reference: Sequence[int]) -> MemoryTensors:
        """Write one memory; only the memory layers run."""
        return cast(MemoryTensors, await self._lane.call("write", reference))
