"""How late an event loop is: what a task that should have woken says of what kept it.

A loop that lags answers health checks late and delays every stream; model work or a large parse on
it shows here first.
"""

from __future__ import annotations

import asyncio
import weakref

from prometheus_client import CollectorRegistry, Histogram

_INTERVAL_S = 0.1
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

_by_registry: weakref.WeakKeyDictionary[CollectorRegistry, Histogram] = weakref.WeakKeyDictionary()


class EventLoopLag:
    """Measures the loop it is started on, ten times a second.

    Args:
        registry: Where the histogram is registered, once.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        if registry not in _by_registry:
            _by_registry[registry] = Histogram(
                "memory3_event_loop_lag_seconds",
                "Seconds that a task of the event loop woke later than it should have.",
                registry=registry,
                buckets=_BUCKETS_S,
            )
        self._lag = _by_registry[registry]
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; call it on the loop."""
        self._task = asyncio.get_running_loop().create_task(self._measure(), name="loop-lag")

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _measure(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _INTERVAL_S
            await asyncio.sleep(_INTERVAL_S)
            self._lag.observe(max(0.0, loop.time() - due))
