"""Waiting in tests for what nothing announces.

A test says what is to come about, never how fast: the machine may be busy with anything. The time
allowed here only ends a test that would wait for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_PATIENCE_S = 60.0


def eventually(condition: Callable[[], bool], timeout_s: float = _PATIENCE_S) -> bool:
    """Whether a condition becomes true within a time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
