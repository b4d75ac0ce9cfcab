"""F14: every replica of every service is replaced under load, and no caller notices."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory3.launcher.process import ServiceProcess
from tests.faults.campaign import FULL, Campaign
from tests.faults.rolling import BANK, NUM_REPLICAS, REPLICATED, RollingStack
from tests.faults.rolling_load import Load

pytestmark = pytest.mark.e2e


@pytest.mark.timeout(0)
def test_f14_no_call_fails_while_replicas_are_replaced(tmp_path: Path, campaign: Campaign) -> None:
    """New ones are ready before old ones leave: no call fails and no answer lacks memories.

    The one retriever that is written to is away for a moment: additions that it refuses are tried
    again, and all that it acknowledged is there in the end.
    """
    with RollingStack(tmp_path) as stack:

        def case(seed: int) -> None:
            with Load(stack) as load:
                load.wait_for_more()
                replace = _replace_all if os.environ.get(FULL) else _replace_some
                for left in replace(stack, load):
                    load.wait_for_more()
                    assert left.exit_code == 0, left.log_tail()
                load.stage, load.writer_leaves = "writer leaves", True
                assert stack.retire("writer").exit_code == 0
                stack.add("writer")
                load.wait_for_more()
            assert not load.faults, "\n".join(load.faults)
            with stack.client("writer") as client:
                kept = {reference.id for reference in client.list_references(BANK)}
            assert load.added <= kept
            campaign.note("F14", "calls", load.finished.total())

        campaign.run("F14", case, full=5, short=1)


def _replace_all(stack: RollingStack, load: Load) -> Iterator[ServiceProcess]:
    """One after the other, each as soon as its successor is ready."""
    for name in REPLICATED:
        for _ in range(NUM_REPLICAS):
            load.stage = f"{name} leaves"
            stack.add(name)
            yield stack.retire(name)


def _replace_some(stack: RollingStack, load: Load) -> Iterator[ServiceProcess]:
    """One of each service; their successors start side by side, which is quicker."""
    load.stage = "all grow"
    stack.add(*REPLICATED)
    for name in REPLICATED:
        load.stage = f"{name} leaves"
        yield stack.retire(name)
