"""How much each token may ask of this process: calls begun (a token bucket) and calls in flight."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from memory3.errors import QuotaExceededError
from memory3.rpc.security.roles import Identity

_BUSY_RETRY_S = 0.25


@dataclass
class _Use:
    level: float
    at: float
    running: int = 0


class Quotas:
    """Counts the calls of each identity; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uses: dict[str, _Use] = {}

    def enter(self, identity: Identity) -> None:
        """Count a call in; ``leave`` must follow.

        Raises:
            QuotaExceededError: It would be one too many; nothing has been counted.
        """
        quota, now = identity.quota, time.monotonic()
        rate = quota.requests_per_second
        burst = float(quota.burst or max(1.0, rate))
        with self._lock:
            use = self._uses.setdefault(identity.name, _Use(burst, now))
            if quota.concurrent and use.running >= quota.concurrent:
                raise _exceeded(f"{quota.concurrent} calls at once", _BUSY_RETRY_S)
            if rate:
                use.level = min(burst, use.level + (now - use.at) * rate)
                use.at = now
                if use.level < 1:
                    raise _exceeded(f"{rate:g} calls a second", (1 - use.level) / rate)
                use.level -= 1
            use.running += 1

    def leave(self, identity: Identity) -> None:
        """Count a call out."""
        with self._lock:
            self._uses[identity.name].running -= 1


def _exceeded(limit: str, retry_after_s: float) -> QuotaExceededError:
    return QuotaExceededError(
        f"this token may make {limit}",
        remedy="try again after the delay, or ask for a larger quota",
        retry_after_s=retry_after_s,
    )
