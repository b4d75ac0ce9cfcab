"""F14: every replica of every service is replaced under load, and no caller notices."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.campaign import FULL, Campaign
from tests.faults.rolling import BANK, NAMES, NUM_REPLICAS, RollingStack
from tests.faults.rolling_load import Load

pytestmark = pytest.mark.e2e

# Kubernetes' manifests say 10; whoever calls leaves a replica within a fraction of a second.
DRAIN_S = 1.0


@pytest.mark.timeout(0)
def test_f14_no_call_fails_while_replicas_are_replaced(tmp_path: Path, campaign: Campaign) -> None:
    """New ones are ready before old ones leave: no call fails and no answer lacks memories.

    The one retriever that is written to is away for a moment: additions that it refuses are tried
    again, and all that it acknowledged is there in the end.
    """
    is_full = bool(os.environ.get(FULL))
    with RollingStack(tmp_path, DRAIN_S) as stack:

        def case(seed: int) -> None:
            with Load(stack) as load:
                load.wait_for_more()
                for name in NAMES:
                    load.stage = f"{name} leaves"
                    load.writer_leaves = name == "writer"
                    # One of two is replaced in the short form: that is where calls would fail.
                    for left in stack.roll(name, NUM_REPLICAS[name] if is_full else 1):
                        load.wait_for_more()
                        assert left.exit_code == 0, left.log_tail()
            assert not load.faults, "\n".join(load.faults)
            with stack.client("writer") as client:
                kept = {reference.id for reference in client.list_references(BANK)}
            assert load.added <= kept
            campaign.note("F14", "calls", load.finished.total())

        campaign.run("F14", case, full=5, short=1)
