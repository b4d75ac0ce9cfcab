"""F6: callers who leave or run out of time, at any moment: their slots are free and nothing is
computed for them any more.
"""

from __future__ import annotations

import threading
import time
from random import Random
from typing import Any

import pytest

from memory3.client import Client
from memory3.errors import DeadlineExceededError, QueueFullError
from tests.e2e.chain import prompts_about
from tests.faults.campaign import Campaign
from tests.faults.proxied import NUM_TOKENS, ProxiedServices, greedy

pytestmark = pytest.mark.e2e

PROMPTS = [*prompts_about(5), *prompts_about(6)]
NUM_CALLERS = 12  # more than there are slots, so that some leave the queue
MODEL_STEPS = "memory3_generation_tokens_total"


def test_f6_whoever_leaves_frees_the_slot(
    proxied: ProxiedServices, client: Client, campaign: Campaign
) -> None:
    """Many at once leave after so many events or so much time; then no slot is held."""
    proxied.heal()

    def case(seed: int) -> None:
        rng = Random(seed)
        callers = [
            threading.Thread(target=_leave, args=(client, Random(rng.random()), endings))
            for _ in range(NUM_CALLERS)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        proxied.wait_until_idle(10.0)
        # Whatever ended a call was its caller's doing.
        errors = endings.copy()
        endings.clear()
        assert errors == []

    endings: list[BaseException] = []
    campaign.run("F6", case, full=500, short=6)


def _leave(client: Client, rng: Random, endings: list[BaseException]) -> None:
    wishes: dict[str, Any] = greedy(
        max_tokens=rng.randrange(1, NUM_TOKENS), n=rng.choice((1, 1, 3))
    )
    most_events = rng.choice((0, 1, rng.randrange(1, 80), 10**6))
    if rng.random() < 0.5:
        wishes["timeout"] = rng.choice((0.001, rng.random() * 0.1, rng.random()))
    try:
        events = client.stream(rng.choice(PROMPTS), rng.choice(("", "people")), **wishes)
        for number, _ in enumerate(events):
            if number >= most_events:
                break
        if rng.random() < 0.3:
            time.sleep(0.01)
        events.close()
    except DeadlineExceededError:
        pass
    except QueueFullError as error:
        # With so little time it may be refused at once instead.
        if error.field != "deadline" or "timeout" not in wishes:
            endings.append(error)
    except BaseException as error:
        endings.append(error)
