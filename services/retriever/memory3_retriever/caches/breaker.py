"""A circuit breaker: after a fault nobody tries again for a while, then one does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class CircuitBreaker:
    """Says whether to try.

    Each fault in a row doubles the pause, up to a limit; one success ends it.

    Args:
        first_pause_s: The pause after a first fault, in seconds.
        max_pause_s: The longest pause.
        clock: Tells the time in seconds, and never runs backwards.
    """

    def __init__(
        self,
        first_pause_s: float = 0.5,
        max_pause_s: float = 30.0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first_pause_s = first_pause_s
        self._max_pause_s = max_pause_s
        self._clock = clock
        self._lock = threading.Lock()
        self._pause_s = 0.0
        self._closed_until = 0.0
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether the latest try was a fault."""
        with self._lock:
            return self._pause_s > 0

    def allows(self) -> bool:
        """Whether the caller may try now; after a pause only one caller at a time may."""
        with self._lock:
            if not self._pause_s:
                return True
            now = self._clock()
            if now < self._closed_until:
                return False
            self._closed_until = now + self._pause_s
            self._trying = True
            return True

    def succeeded(self) -> None:
        """It worked."""
        with self._lock:
            self._pause_s = 0.0
            self._trying = False

    def failed(self) -> bool:
        """It did not.

        Returns:
            Whether this is news: of many that were trying when the first fault came, the others
            tell nothing more, and make no pause longer.
        """
        with self._lock:
            if self._pause_s and not self._trying:
                return False
            self._trying = False
            doubled = max(self._first_pause_s, 2 * self._pause_s)
            self._pause_s = min(doubled, self._max_pause_s)
            self._closed_until = self._clock() + self._pause_s
            return True
