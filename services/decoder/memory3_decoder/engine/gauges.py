"""What the gauges show of an engine's sequences."""

from __future__ import annotations

import time
from collections.abc import Collection

from memory3_decoder.engine.queue import WaitingQueue
from memory3_decoder.engine.sequence import Sequence
from memory3_decoder.metrics import DecoderMetrics
from memory3_decoder.model.runner import ModelRunner

# Nobody looks more often, and looking through a long queue before every step would slow steps down.
_EVERY_S = 0.1


class Gauges:
    """Sets the gauges.

    Args:
        metrics: Where they are.
        runner: The model's.
        running: Those who hold a slot.
        waiting: Those who hold none.
        reading: Those of the running whose prompts are read.
    """

    def __init__(
        self,
        metrics: DecoderMetrics,
        runner: ModelRunner,
        running: Collection[Sequence],
        waiting: WaitingQueue,
        reading: Collection[Sequence],
    ) -> None:
        self._metrics = metrics
        self._runner = runner
        self._running, self._waiting, self._reading = running, waiting, reading
        self._due = 0.0

    def measure_if_due(self) -> None:
        """Measure if the last time was a while ago."""
        if time.monotonic() >= self._due:
            self.measure()

    def measure(self) -> None:
        """Set all to what they are now."""
        self._due = time.monotonic() + _EVERY_S
        metrics, running, waiting = self._metrics, self._running, self._waiting
        metrics.requests_running.set(len(running))
        metrics.requests_waiting.set(len(waiting))
        unread = sum(sequence.num_unread for sequence in (*waiting, *self._reading))
        metrics.prompt_tokens_waiting.set(unread)
        metrics.prefix_bytes.set(self._runner.prefix_bytes)
        metrics.awaiting_memories.set(sum(sequence.awaits_memories for sequence in running))
        session_bytes = sum(sequence.session.num_bytes for sequence in (*waiting, *running))
        metrics.session_bytes.set(session_bytes)
        metrics.suspended_bytes.set(waiting.suspended_bytes)
