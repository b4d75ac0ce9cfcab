"""What the gauges show of an engine's sequences at one moment."""

from __future__ import annotations

from collections.abc import Collection

from memory3_decoder.engine.queue import WaitingQueue
from memory3_decoder.engine.runner import ModelRunner
from memory3_decoder.engine.sequence import Sequence
from memory3_decoder.engine.turns import num_suspended_bytes
from memory3_decoder.metrics import DecoderMetrics


def measure(
    metrics: DecoderMetrics,
    runner: ModelRunner,
    running: Collection[Sequence],
    waiting: WaitingQueue,
    reading: Collection[Sequence],
) -> None:
    """Set the gauges.

    Args:
        metrics: Where they are.
        runner: The model's.
        running: Those who hold a slot.
        waiting: Those who hold none.
        reading: Those of the running whose prompts are read.
    """
    metrics.requests_running.set(len(running))
    metrics.requests_waiting.set(len(waiting))
    unread = sum(sequence.num_unread for sequence in (*waiting, *reading))
    metrics.prompt_tokens_waiting.set(unread)
    metrics.prefix_bytes.set(runner.prefix_bytes)
    metrics.awaiting_memories.set(sum(sequence.awaits_memories for sequence in running))
    session_bytes = sum(sequence.session.num_bytes for sequence in (*waiting, *running))
    metrics.session_bytes.set(session_bytes)
    metrics.suspended_bytes.set(num_suspended_bytes(waiting))
