"""Admission: how many calls a service works on at once, in all and per method.

Busy is not dead: health checks and reflection are never counted and never refused, which is why
this is not gRPC's own ``maximum_concurrent_rpcs``.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

from memory3.errors import InvalidArgumentError, QueueFullError

_EXEMPT = ("/grpc.health.v1.Health/", "/grpc.reflection.")

RETRY_AFTER_S = 0.25


def is_exempt(method: str) -> bool:
    """Whether a full method path belongs to health checking or reflection."""
    return method.startswith(_EXEMPT)


class Admission:
    """Counts the calls in flight and refuses those above the limits.

    Args:
        max_concurrent: The most calls in flight over all methods.
        method_limits: Lower limits for single methods, by bare name, such as ``{"Encode": 8}``.

    Raises:
        InvalidArgumentError: A limit is below 1.
    """

    def __init__(self, max_concurrent: int, method_limits: Mapping[str, int] | None = None) -> None:
        self.max_concurrent = max_concurrent
        self.method_limits = dict(method_limits or {})
        for name, limit in {"max_concurrent": max_concurrent, **self.method_limits}.items():
            if limit < 1:
                raise InvalidArgumentError(f"{limit} is below 1", field=name)
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()

    @property
    def num_running(self) -> int:
        """Calls in flight now."""
        with self._lock:
            return self._running.total()

    def enter(self, method: str) -> None:
        """Count a call in.

        Args:
            method: The full method path; the caller must call ``leave`` with it once.

        Raises:
            QueueFullError: A limit is reached; nothing has been counted.
        """
        name = method.rpartition("/")[2]
        with self._lock:
            limit = self.method_limits.get(name)
            if limit is not None and self._running[method] >= limit:
                raise _full(f"{name} is at its limit of {limit} calls at once", limit)
            if self._running.total() >= self.max_concurrent:
                raise _full(
                    f"the service is at its limit of {self.max_concurrent} calls at once",
                    self.max_concurrent,
                )
            self._running[method] += 1

    def leave(self, method: str) -> None:
        """Count a call out."""
        with self._lock:
            self._running[method] -= 1


def _full(message: str, limit: int) -> QueueFullError:
    return QueueFullError(
        message,
        remedy="try again after the delay",
        metadata={"limit": str(limit)},
        retry_after_s=RETRY_AFTER_S,
    )
