"""SIGTERM ends a run after the step it is in, in all processes at once, with a state kept.

Lightning's own handler broadcasts from inside the signal, in the middle of whatever the processes
are exchanging, and two of them wait for each other for ever. Here a signal only leaves word; the
processes ask each other between steps.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning.pytorch import Trainer


class StopRequest:
    """Whether this process was told to stop.

    Attributes:
        told: A SIGTERM has come; the next one ends the process at once.
    """

    def __init__(self) -> None:
        self.told = False
        self._stepping = False
        self._trainer: Trainer | None = None

    @contextmanager
    def heard(self, trainer: Trainer) -> Iterator[None]:
        """From before Lightning starts other processes until they have ended."""
        self._trainer = trainer
        before = signal.getsignal(signal.SIGTERM)
        self.take_over()
        try:
            yield
        finally:
            _handle(before)

    def take_over(self) -> None:
        """Be the only handler; by the time Lightning asks for data it has registered its own."""
        _handle(self._on_signal)

    def begin(self) -> None:
        """From now on there is a step to end and a state to keep."""
        self._stepping = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        launcher = self._trainer.strategy.launcher if self._trainer else None
        for process in getattr(launcher, "procs", []):
            process.send_signal(number)
        if self.told or not self._stepping:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.told = True


def _handle(handler: Any) -> None:
    # Only the main thread may; in another one, a caller's own, nothing was registered either.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)
