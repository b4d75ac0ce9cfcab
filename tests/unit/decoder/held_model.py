"""Work that takes as long as a test wants: the model of a decoder, held or slowed at every step.

A test that looks at running work must not hope that the machine is slow enough to be caught at it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from memory3_decoder.model import worker as worker_module

# A test that forgets to open the gate ends with an error, and does not hang.
_PATIENCE_S = 120.0


class HeldModel:
    """Holds the model of every decoder that runs it on a thread of this process, on that thread.

    Attributes:
        gate: The model waits while it is closed.
        pause_s: Seconds that each step takes on top of its own.
        num_steps: Steps and prefills that have begun.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.pause_s = 0.0
        self.num_steps = 0
        self._stands = threading.Event()
        real = worker_module.sample

        def held(*arguments: Any) -> Any:
            self.num_steps += 1
            if self.pause_s:
                time.sleep(self.pause_s)
            if not self.gate.is_set():
                self._stands.set()
                if not self.gate.wait(_PATIENCE_S):
                    raise TimeoutError("the gate of the model was never opened")
                self._stands.clear()
            return real(*arguments)

        monkeypatch.setattr(worker_module, "sample", held)

    async def until_held(self) -> None:
        """Close the gate, and wait until the model stands before it."""
        self.gate.clear()
        async with asyncio.timeout(_PATIENCE_S):
            while not self._stands.is_set():
                await asyncio.sleep(0.001)
