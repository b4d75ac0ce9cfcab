"""The event loop's lag."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import CollectorRegistry

from memory3.observability.event_loop import EventLoopLag


async def test_what_holds_the_loop_up_is_measured() -> None:
    """Half a second on the loop shows as such, and nothing is measured after the end."""
    registry = CollectorRegistry()
    lag = EventLoopLag(registry)
    lag.start()
    await asyncio.sleep(0.05)
    time.sleep(0.5)
    await asyncio.sleep(0.15)
    await lag.stop()
    total = registry.get_sample_value("memory3_event_loop_lag_seconds_sum")
    count = registry.get_sample_value("memory3_event_loop_lag_seconds_count")
    assert total is not None
    assert total >= 0.4
    await asyncio.sleep(0.25)
    assert registry.get_sample_value("memory3_event_loop_lag_seconds_count") == count
